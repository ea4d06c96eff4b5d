"""What went wrong, said on a page."""

import streamlit as st

from demo.core.wording import literal

__all__ = ["say_error"]


def say_error(error: Exception | str) -> None:
    """Show an error as it is written; nothing in it is taken for Markdown.

    Args:
        error: The error, or what to say.
    """
    st.error(literal(str(error)), icon=":material/error:")
