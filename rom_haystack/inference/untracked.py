"""Import inference engines without their telemetry.

OpenVINO and NNCF write a client id into the user's home when they are imported, and send what is called, by way of the
package `openvino_telemetry`; where that is missing they do neither, so it is kept from them. ONNX Runtime (since 1.29)
does the same by itself, unless the environment says otherwise when it is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_IMPORTING = threading.Lock()


def import_untracked(name: str) -> ModuleType:
    """Import an engine that contacts nobody.

    One that the program has imported before, by itself, is as the program wanted it. `ORT_DISABLE_TELEMETRY` stays as
    the user has set it.

    Raises:
        ImportError: The engine is not installed.
    """
    if name in sys.modules:
        return importlib.import_module(name)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _IMPORTING, _hidden("openvino_telemetry"):
        module = importlib.import_module(name)
    if disable := getattr(module, "disable_telemetry_events", None):  # for Windows, which has another way
        disable()
    return module


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let a package be as if it were not installed."""
    present = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment] # how Python marks it
    try:
        yield
    finally:
        del sys.modules[name]
        if present is not None:
            sys.modules[name] = present
