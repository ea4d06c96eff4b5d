"""The page's address: what a link says is done, and what is done stands in the link."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import streamlit as st

# Session state: page and parameters as last seen or written, and those that have just come from outside.
_KNOWN = "link known"
_ARRIVED = "link arrived"


def follow() -> None:
    """See whether this run comes from a link, a bookmark or the browser's back button; called first in every run.

    Whoever turns to another page by the menu brings no parameters, and keeps what was chosen before.
    """
    page, parameters = _page(), st.query_params.to_dict()
    known: tuple[str, Mapping[str, str]] | None = st.session_state.get(_KNOWN)
    turned = known is not None and known[0] != page
    changed = known is None or parameters != known[1]
    st.session_state[_ARRIVED] = parameters if changed and (parameters or not turned) else None
    st.session_state[_KNOWN] = (page, parameters)


def arrived() -> Mapping[str, str] | None:
    """The link's parameters if this run is the first with them, else None."""
    parameters: Mapping[str, str] | None = st.session_state.get(_ARRIVED)
    return parameters


def write(parameters: Mapping[str, str]) -> None:
    """Show parameters in the address, and no others.

    Args:
        parameters: All that the link says. Empty ones are left out.
    """
    wanted = {name: value for name, value in parameters.items() if value}
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
    st.session_state[_KNOWN] = (_page(), wanted)


def _page() -> str:
    return urlsplit(st.context.url or "").path
