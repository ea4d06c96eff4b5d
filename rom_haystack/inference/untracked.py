"""Import OpenVINO and NNCF without their telemetry.

On import they write a client id into the user's home, and on some calls they send what was called, all unasked. They do
neither where the package `openvino_telemetry` is missing, so it is kept from them.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

_TELEMETRY = "openvino_telemetry"
_IMPORTING = threading.Lock()


def import_untracked(name: str) -> ModuleType:
    """Import a module that finds no telemetry.

    One that the program has imported before, by itself, stays as it is.

    Raises:
        ImportError: It is not installed.
    """
    if name in sys.modules:
        return importlib.import_module(name)
    with _IMPORTING:
        present = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment] # how Python marks what is not to be found
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules[_TELEMETRY]
            if present is not None:
                sys.modules[_TELEMETRY] = present
