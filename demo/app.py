"""The demo's frame: its pages and what they share. Run by `streamlit run demo/app.py`."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import streamlit as st


def main() -> None:
    """Draw the page that is asked for."""
    # The libraries look at the environment as they are imported.
    from demo.core.environment import import_libraries, set_environment  # noqa: PLC0415

    set_environment()
    import_libraries()
    from demo.views import frame  # noqa: PLC0415

    frame.set_up()
    frame.engine()  # loads the model while the page is drawn
    st.navigation(
        [
            st.Page(_show("ask"), title="Ask", icon=":material/search:", url_path="ask", default=True),
            st.Page(_show("documents"), title="Documents", icon=":material/folder_open:", url_path="documents"),
            st.Page(_show("compare"), title="Compare", icon=":material/compare_arrows:", url_path="compare"),
            st.Page(_show("evaluate"), title="Evaluate", icon=":material/checklist:", url_path="evaluate"),
            st.Page(_show("training"), title="Training", icon=":material/monitoring:", url_path="training"),
        ],
        position="top",
    ).run()


def _show(page: str) -> Callable[[], None]:
    """Draw a page of `demo.views`, imported when it is first asked for: charts take long to import."""

    def show() -> None:
        import_module(f"demo.views.{page}").show()

    return show


# Streamlit looks for modules beside this file; the package is one folder up.
if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
    sys.path.append(root)
main()
