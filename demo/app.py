"""The demo's frame: its pages and what they share. Run by `streamlit run demo/app.py`."""

import sys
from pathlib import Path

import streamlit as st

# Streamlit looks for modules beside this file; the package is one folder up.
if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(root)

from demo.core.environment import set_environment

set_environment()

from demo.views import ask, compare, documents, evaluate, frame, training

frame.set_up()
page = st.navigation(
    [
        st.Page(ask.show, title="Ask", icon=":material/search:", url_path="ask", default=True),
        st.Page(documents.show, title="Documents", icon=":material/folder_open:", url_path="documents"),
        st.Page(compare.show, title="Compare", icon=":material/compare_arrows:", url_path="compare"),
        st.Page(evaluate.show, title="Evaluate", icon=":material/checklist:", url_path="evaluate"),
        st.Page(training.show, title="Training", icon=":material/monitoring:", url_path="training"),
    ],
    position="top",
)
page.run()
