"""Files put into a folder so that they can be taken back."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

# Longer than any name in the folder, so that no file's name is the same.
_INCOMING = "incoming" + "-" * 160


class FileExchange:
    """Puts files into a folder, each in full or not at all, and keeps those they replace until it ends.

    Where the process is killed, the folder keeps the new files.

    Args:
        folder: Where the files go.
        aside: A folder on the same file system for those they replace; removed in the end.

    Attributes:
        written: SHA-256 hashes of the files that were put there, by name.
    """

    def __init__(self, folder: Path, aside: Path) -> None:
        self.written: dict[str, str] = {}
        self._folder = folder
        self._aside = aside

    def __enter__(self) -> Self:
        shutil.rmtree(self._aside, ignore_errors=True)  # left by a process that was killed
        self._aside.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def write(self, files: Mapping[str, bytes]) -> list[tuple[str, str]]:
        """Put files into the folder.

        Args:
            files: Their contents, by name.

        Returns:
            The names of those that could not be written, with reasons.
        """
        failed: list[tuple[str, str]] = []
        for name, data in files.items():
            try:
                self._write(name, data)
            except OSError as error:
                failed.append((name, f"can't be saved: {error.strerror or error}"))
            else:
                self.written[name] = hashlib.sha256(data).hexdigest()
        return failed

    def undo(self, names: Iterable[str]) -> None:
        """Take files back, and return those they replaced to their places.

        Args:
            names: Some of those in `written`.
        """
        for name in names:
            replaced = self._aside / name
            if replaced.exists():
                replaced.replace(self._folder / name)
            else:
                (self._folder / name).unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        incoming, target = self._aside / _INCOMING, self._folder / name
        with incoming.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copy2(target, self._aside / name)  # a copy, so that the name never has no file
        incoming.replace(target)
