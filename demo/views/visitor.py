"""Whether the visitor of a page is still there."""

from collections.abc import Callable

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx


def visits() -> Callable[[], bool]:
    """Make what tells, in any thread, whether this browser session is still connected."""
    context = get_script_run_ctx()
    session = "" if context is None else context.session_id
    # There is no runtime where the page is drawn without a server, and at the server's end.
    return lambda: not runtime.exists() or runtime.get_instance().is_active_session(session)
