"""The page `Ask`."""

import streamlit as st


def show() -> None:
    """Draw the page."""
    st.title("Ask")
