"""How questions are asked: the settings of this browser session, in a popover."""

from collections.abc import Iterable, Mapping

import streamlit as st

from demo.core.results import Settings
from rom_haystack.components.extractive_reader import AdaptiveReading
from rom_haystack.pipelines import Retrieval

RETRIEVALS: dict[Retrieval, str] = {"hybrid": "Hybrid", "dense": "Meaning", "keyword": "Keywords"}
READINGS: dict[AdaptiveReading, str] = {"off": "Exact", "cautious": "Cautious", "fast": "Fast"}
_READING_HELP = (
    "Exact reads all passages. Cautious and fast stop as soon as no further passage can plausibly change the best "
    "answer; on SQuAD, cautious gives the answer of exact for 99.8% of questions, fast for 97.9%."
)
_FEWEST, _MOST = 1, 30

# Widget keys.
_RETRIEVAL, _PASSAGES, _READING = "retrieval", "passages", "reading"
_DEFAULTS = Settings()


def follow(link: Mapping[str, str]) -> None:
    """Take settings from a link; what it does not say, or says wrongly, is as by default."""
    st.session_state[_RETRIEVAL] = _one_of(RETRIEVALS, link.get(_RETRIEVAL), _DEFAULTS.retrieval)
    st.session_state[_READING] = _one_of(READINGS, link.get(_READING), _DEFAULTS.reading)
    passages = link.get(_PASSAGES, "")
    known = passages.isascii() and passages.isdigit() and len(passages) <= 4
    st.session_state[_PASSAGES] = min(max(int(passages), _FEWEST), _MOST) if known else _DEFAULTS.passages


def in_link(settings: Settings) -> dict[str, str]:
    """What a link says of settings; nothing of those that are as by default."""
    said = {
        _RETRIEVAL: (settings.retrieval, _DEFAULTS.retrieval),
        _PASSAGES: (settings.passages, _DEFAULTS.passages),
        _READING: (settings.reading, _DEFAULTS.reading),
    }
    return {name: str(value) for name, (value, default) in said.items() if value != default}


def choose_settings() -> Settings:
    """Draw the popover.

    Returns:
        The choice.
    """
    if _RETRIEVAL not in st.session_state:
        follow({})
    with st.popover("Settings", icon=":material/tune:"):
        retrieval = st.segmented_control(
            "Find passages by",
            list(RETRIEVALS),
            format_func=RETRIEVALS.__getitem__,
            key=_RETRIEVAL,
            required=True,
            help="Hybrid finds them by keywords and by meaning, and is best at most questions.",
            persist_state="session",
        )
        reading = st.segmented_control(
            "Reading",
            list(READINGS),
            format_func=READINGS.__getitem__,
            key=_READING,
            required=True,
            help=_READING_HELP,
            persist_state="session",
        )
        passages = st.slider(
            "Passages to read",
            _FEWEST,
            _MOST,
            key=_PASSAGES,
            persist_state="session",
            help="Most passages that are read.",
        )
        st.button("As by default", icon=":material/restart_alt:", type="tertiary", on_click=follow, args=({},))
    return Settings(retrieval=retrieval or _DEFAULTS.retrieval, passages=passages, reading=reading or _DEFAULTS.reading)


def _one_of(known: Iterable[str], value: str | None, default: str) -> str:
    return next((one for one in known if one == value), default)
