"""What every page shares: page settings, style, the collection and the engine of this browser session."""

from collections import Counter
from pathlib import Path

import streamlit as st

from demo.core.engine import Engine
from demo.core.shelf import Collection, Shelf, ShelfError, demo_home, session_collection
from demo.core.wording import literal
from demo.views import links
from demo.views.indexing import indexed

__all__ = [
    "choose",
    "choose_collection",
    "collection",
    "drafts",
    "engine",
    "indexed",
    "set_up",
    "shelf",
]

_STYLE = Path(__file__).with_name("style.css")
_ICON = Path(__file__).with_name("icon.svg")  # Streamlit would fetch one of its own

# Session state: id of the chosen collection, id in a link that is none, and this session's uploads.
_CHOSEN = "collection id"
_UNKNOWN = "unknown collection"
_DRAFTS = "drafts"
_SELECTOR = "collection selector"


def set_up() -> None:
    """Set up the page; called first in every run."""
    st.set_page_config(page_title="ROM: ask your documents", page_icon=_ICON, layout="wide")
    st.html(_STYLE)
    links.follow()
    arrived = links.arrived()
    if arrived is not None:
        st.session_state.pop(_UNKNOWN, None)
        if identifier := arrived.get("collection"):
            _follow(identifier)
    if unknown := st.session_state.get(_UNKNOWN):
        st.warning(
            f"This link is about documents that are not here (“{literal(unknown)}”). They were deleted, or are another "
            f"browser session’s unsaved ones, or on another machine. Chosen instead: “{literal(collection().name)}”.",
            icon=":material/link_off:",
        )


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The collections that stay, the same ones for all sessions."""
    return Shelf(demo_home())


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """What the model runs on, the same for all sessions."""
    made = Engine()
    made.warm_up()
    return made


def drafts() -> Collection:
    """This session's unsaved uploads; no other session sees them."""
    found = _drafts_so_far()
    if found is None:
        found = st.session_state[_DRAFTS] = session_collection()
    return found


def collection() -> Collection:
    """The collection that this session has chosen; the sample before any choice, and where the chosen one is gone."""
    chosen: str | None = st.session_state.get(_CHOSEN)
    own = _drafts_so_far()
    if own is not None and chosen == own.id:
        return own
    try:
        return shelf().get(chosen) if chosen else shelf().collections()[0]
    except ShelfError:
        return shelf().collections()[0]


def choose(chosen: Collection) -> None:
    """Choose a collection for this session.

    Args:
        chosen: One of the shelf's, or the drafts.
    """
    st.session_state[_CHOSEN] = chosen.id
    st.session_state.pop(_UNKNOWN, None)


def choose_collection() -> Collection:
    """Draw the selector of collections.

    Returns:
        The choice.
    """
    offered = {one.id: one for one in shelf().collections()}
    own = _drafts_so_far()
    if own is not None and (own is collection() or any(own.folder.iterdir())):
        offered[own.id] = own
    names = Counter(one.name for one in offered.values())

    def name_of(identifier: str) -> str:
        name = offered[identifier].name
        return name if names[name] == 1 else f"{name} ({identifier})"

    # Another page, a link or a deletion may have changed the choice since the selector was drawn.
    st.session_state[_SELECTOR] = collection().id
    st.selectbox(
        "Documents",
        list(offered),
        format_func=name_of,
        key=_SELECTOR,
        on_change=lambda: choose(offered[st.session_state[_SELECTOR]]),
    )
    return collection()


def _drafts_so_far() -> Collection | None:
    """This session's unsaved uploads if there ever were any."""
    found: Collection | None = st.session_state.get(_DRAFTS)
    return found


def _follow(identifier: str) -> None:
    own = _drafts_so_far()
    if own is not None and identifier == own.id:
        choose(own)
        return
    try:
        choose(shelf().get(identifier))
    except ShelfError:
        st.session_state.pop(_CHOSEN, None)
        st.session_state[_UNKNOWN] = identifier
