"""What Hayhooks needs around it: its packages, and an environment in which nothing speaks to the outside."""

import os
from importlib.util import find_spec


def check_packages(*, mcp: bool) -> None:
    """Check, without importing them, that the packages which a server needs are installed.

    Raises:
        ImportError: Some are not; the message says how to install them.
    """
    missing = [name for name in ("hayhooks", *(["mcp"] if mcp else [])) if not _is_installed(name)]
    if missing:
        raise ImportError(f'Serving needs {" and ".join(missing)}. Install: pip install "rom-haystack[serve]".')


def isolate() -> None:
    """Keep Hayhooks and its libraries from logging questions, reading `.env` files and exporting traces.

    Must run before they are imported.
    """
    os.environ["HAYHOOKS_LOG_LEVEL"] = "WARNING"  # at INFO every request is logged with its question
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"  # or a file in the current folder could undo all this
    os.environ["OTEL_SDK_DISABLED"] = "true"


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # marked as not to be imported
        return False
