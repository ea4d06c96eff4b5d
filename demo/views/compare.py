"""The page `Compare`."""

import streamlit as st


def show() -> None:
    """Draw the page."""
    st.title("Compare")
