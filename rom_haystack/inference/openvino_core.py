"""OpenVINO's core: one for the whole process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from rom_haystack.inference.untracked import import_untracked

if TYPE_CHECKING:
    from openvino import Core

_MAKING = threading.Lock()


def openvino_core() -> Core:
    """Return the core of this process, which is kept as long as the process lives.

    On CPUs with AMX each core gives the thread that first uses it a stack for signals of its own, and takes it away in
    the end (openvinotoolkit/openvino, pull request 11894). Of two cores whichever was made first must not end first,
    or that thread is left with a stack that is no longer there, and dies of the next signal that Python handles, be it
    Ctrl-C. A forked process gets another core, as threads stay behind.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    openvino = import_untracked("openvino")
    with _MAKING:
        return _core_of(os.getpid(), openvino.Core)


@cache
def _core_of(process: int, make: Callable[[], Core]) -> Core:  # noqa: ARG001 (tells a fork from its parent)
    return make()
