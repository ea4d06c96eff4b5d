"""The page `Documents`."""

import streamlit as st


def show() -> None:
    """Draw the page."""
    st.title("Documents")
