"""What every page shares: page settings, style, the collection and the engine of this browser session."""

from collections import Counter
from pathlib import Path

import streamlit as st

from demo.core.engine import Engine
from demo.core.shelf import Collection, Shelf, ShelfError, demo_home, remove_left_sessions, session_collection
from demo.core.sweeping import Sweeper
from demo.core.wording import literal
from demo.views import links
from demo.views.indexing import indexed
from demo.views.visitor import visits

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

# Session state: id and name of the chosen collection, what to say of one that is not there, and this session's uploads.
_CHOSEN = "collection id"
_NAME = "collection name"
_GONE = "collection that is gone"
_DRAFTS = "drafts"
_SELECTOR = "collection selector"


def set_up() -> None:
    """Set up the page; called first in every run."""
    st.set_page_config(page_title="ROM: ask your documents", page_icon=_ICON, layout="wide")
    st.html(_STYLE)
    collection()  # which may draw the page anew: a link that has just come is then still to be followed
    links.follow()
    if identifier := (links.arrived() or {}).get("collection"):
        _follow(identifier)
    if gone := st.session_state.get(_GONE):
        st.warning(f"{gone} Chosen instead: “{literal(collection().name)}”.", icon=":material/link_off:")


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The collections that stay, the same ones for all sessions."""
    remove_left_sessions()
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
        _sweeper().watch(found, visits())
    return found


def collection() -> Collection:
    """The collection that this session has chosen; the sample before any choice.

    Where the chosen one was deleted meanwhile the page is drawn anew, with the sample and a word on that: whatever
    button was pressed was meant for the other, so nothing comes of it.
    """
    chosen: str | None = st.session_state.get(_CHOSEN)
    own = _drafts_so_far()
    if own is not None and chosen == own.id:
        return own
    try:
        return shelf().get(chosen) if chosen else shelf().collections()[0]
    except ShelfError:
        st.session_state.pop(_CHOSEN)
        name = literal(st.session_state[_NAME])
        st.session_state[_GONE] = f"The documents “{name}” are not here any more. They were deleted."
        st.rerun()


def choose(chosen: Collection) -> None:
    """Choose a collection for this session.

    Args:
        chosen: One of the shelf's, or the drafts.
    """
    st.session_state[_CHOSEN] = chosen.id
    st.session_state[_NAME] = chosen.name
    st.session_state.pop(_GONE, None)


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


@st.cache_resource(show_spinner=False)
def _sweeper() -> Sweeper:
    """Removes unsaved uploads after their session; Streamlit itself forgets a session when it needs its place."""
    made = Sweeper()
    made.start()
    return made


def _drafts_so_far() -> Collection | None:
    """This session's unsaved uploads if there are any; temporary folders may be cleared away by the system."""
    found: Collection | None = st.session_state.get(_DRAFTS)
    if found is not None and not found.folder.is_dir():
        st.session_state.pop(_DRAFTS)
        return None
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
        st.session_state[_GONE] = (
            f"This link is about documents that are not here (“{literal(identifier)}”). They were deleted, or are on "
            "another machine, or were unsaved ones, which only the browser session has that added them, until its page "
            "is loaded again."
        )
