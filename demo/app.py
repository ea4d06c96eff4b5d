"""The demo's frame: its pages and what they share. Run by `streamlit run demo/app.py`."""

import sys
from pathlib import Path

import streamlit as st


def main() -> None:
    """Draw the page that is asked for."""
    # The libraries look at the environment as they are imported.
    from demo.core.environment import set_environment  # noqa: PLC0415

    set_environment()
    from demo.views import ask, compare, documents, evaluate, frame, training  # noqa: PLC0415

    frame.set_up()
    st.navigation(
        [
            st.Page(ask.show, title="Ask", icon=":material/search:", url_path="ask", default=True),
            st.Page(documents.show, title="Documents", icon=":material/folder_open:", url_path="documents"),
            st.Page(compare.show, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
            st.Page(evaluate.show, title="Evaluate", icon=":material/checklist:", url_path="evaluate"),
            st.Page(training.show, title="Training", icon=":material/monitoring:", url_path="training"),
        ],
        position="top",
    ).run()


# Streamlit looks for modules beside this file; the package is one folder up.
if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(root)
main()
