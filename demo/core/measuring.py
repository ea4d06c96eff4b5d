"""Measuring which engine is the fastest for a checkpoint on this machine, without being in anyone's way.

That takes a process: threads of libraries can't be given a lower priority, and an export's memory is given back whole.
"""

import os
import subprocess
import sys
import weakref
from contextlib import suppress

from rom_haystack.inference.registry import AUTO, EncoderSpec
from rom_haystack.inference.selection import VARIABLE


class MeasuringError(RuntimeError):
    """The process failed."""


class Measuring:
    """A process of low priority that measures engines and keeps the choice where `backend="auto"` finds it.

    It ends with this process at the latest.

    Args:
        model: Bundled name or folder of the checkpoint.
    """

    def __init__(self, model: str) -> None:
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 ("" is the current one)
        self._process = subprocess.Popen(  # noqa: S603 (this module)
            [sys.executable, "-m", __name__, model],
            env={**os.environ, VARIABLE: AUTO, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._ending = weakref.finalize(self, self._process.kill)

    def wait(self) -> bool:
        """Wait for the end.

        Returns:
            Whether the engines were measured; False where this process ends before.

        Raises:
            MeasuringError: It failed.
        """
        _, errors = self._process.communicate()
        if not self._ending.alive:
            return False
        if self._process.returncode:
            last = errors.strip().rpartition("\n")[2]
            raise MeasuringError(f"Engines could not be measured: {last or f'exit code {self._process.returncode}'}.")
        return True


def main() -> None:
    """Measure, at the lowest priority that the system grants."""
    with suppress(AttributeError, OSError):
        os.nice(19)
    EncoderSpec.create(sys.argv[1]).resolved()


if __name__ == "__main__":
    main()
