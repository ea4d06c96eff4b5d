"""Thumbs: what users say of answers, kept on this machine for training."""

import hashlib
from pathlib import Path

import streamlit as st

from demo.core.feedback import FeedbackError, FeedbackFile
from demo.core.reach import only_this_machine
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
    """Save what the thumbs and the correction say, or that they say nothing any more."""
    thumb = st.session_state.get(key)
    file = FeedbackFile(feedback_path())
    text, start = (quote.text, quote.start) if quote else (None, 0)
    about = (question, passage.document.content or "", title_of(passage.document), text, start)
    said = f"{key} said"
    try:
        if thumb is None:
            st.session_state.pop(said, None)
            file.withdraw(*about)
        else:
            file.add(*about, right=thumb == _RIGHT, correction=st.session_state.get(f"{key} correction"))
            st.session_state[said] = f"Thank you. Saved in {_shown(str(file.path))}, for training."
    except FeedbackError as error:
        st.session_state[said] = _shown(str(error))


def _shown(text: str) -> str:
    """Write a text so that it can be shown; who comes from another machine learns nothing of this one's folders."""
    if not only_this_machine(st.get_option("server.address")):
        text = text.replace(str(feedback_path()), feedback_path().name)
    return literal(text)
