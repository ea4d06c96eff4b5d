"""What every page shares: page settings, style, the collection and settings of this browser session."""

import streamlit as st


def set_up() -> None:
    """Set up the page; called first in every run."""
    st.set_page_config(page_title="ROM: ask your documents", page_icon=":material/format_quote:", layout="wide")
