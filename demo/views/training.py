"""The page `Training`."""

import streamlit as st


def show() -> None:
    """Draw the page."""
    st.title("Training")
