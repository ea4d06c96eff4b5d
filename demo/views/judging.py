"""Thumbs: what users say of answers, kept on this machine for training."""

import hashlib
from pathlib import Path

import streamlit as st

from demo.core.feedback import FeedbackError, FeedbackFile
from demo.core.results import FoundPassage, Quote, Result
from demo.core.shelf import demo_home
from demo.core.wording import literal, title_of

_RIGHT = 1


def feedback_path() -> Path:
    """Where judgements are kept."""
    return demo_home() / "feedback.json"


def judge(result: Result, passage: FoundPassage, quote: Quote | None, *, asked: bool = False) -> None:
    """Draw thumbs, and keep what is said by them.

    Args:
        result: What was asked.
        passage: Where the answer stands.
        quote: The answer; None for "no answer".
        asked: Whether to write a question beside the thumbs.
    """
    if asked:
        st.html('<p class="rom-asked">Is this right?</p>', width="content")
    place = f"{result.question}\0{passage.document.id}\0{quote.start if quote else ''}\0{quote.end if quote else ''}"
    key = f"judged {hashlib.blake2b(place.encode(), digest_size=8).hexdigest()}"
    st.feedback(
        "thumbs", key=key, on_change=_keep, args=(key, result.question, passage, quote), persist_state="session"
    )
    said: str | None = st.session_state.get(f"{key} said")
    if said is None:
        return
    if st.session_state.get(key) != _RIGHT:
        st.text_input(
            "Right answer, in the passage’s own words (if you know it)",
            key=f"{key} correction",
            on_change=_keep,
            args=(key, result.question, passage, quote),
        )
    st.caption(said)


def _keep(key: str, question: str, passage: FoundPassage, quote: Quote | None) -> None:
    """Save what the thumbs and the correction say."""
    thumb = st.session_state.get(key)
    if thumb is None:
        st.session_state.pop(f"{key} said", None)
        return
    try:
        FeedbackFile(feedback_path()).add(
            question,
            passage.document.content or "",
            title_of(passage.document),
            quote.text if quote else None,
            quote.start if quote else 0,
            right=thumb == _RIGHT,
            correction=st.session_state.get(f"{key} correction"),
        )
    except FeedbackError as error:
        st.session_state[f"{key} said"] = literal(str(error))
    else:
        st.session_state[f"{key} said"] = f"Thank you. Saved in {literal(str(feedback_path()))}, for training."
