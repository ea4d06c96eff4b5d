"""Measure which engine is the fastest for a checkpoint on this machine, in a process of low priority.

A process, as only so both its threads' priority and its memory end with it.
"""

import os
import subprocess
import sys
from contextlib import suppress

from rom_haystack.inference.registry import AUTO, EncoderSpec
from rom_haystack.inference.selection import VARIABLE


def measure(model: str) -> None:
    """Have the engines measured, and the choice kept where `backend="auto"` finds it; returns when that is done.

    Args:
        model: Bundled name or folder of the checkpoint.

    Raises:
        subprocess.CalledProcessError: The process failed.
    """
    environment = {**os.environ, VARIABLE: AUTO, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-m", __name__, model], env=environment, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 (our own module)


if __name__ == "__main__":
    with suppress(AttributeError, OSError):  # not everywhere
        os.nice(19)
    EncoderSpec(sys.argv[1]).resolved()
