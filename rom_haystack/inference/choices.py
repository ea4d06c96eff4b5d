"""Choices of engines, kept on disk: one file per exported model, one entry per machine and versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rom_haystack.inference.registry import DTYPES

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Choice:
    """An engine, and why it was chosen.

    Attributes:
        backend: The engine.
        dtype: The type of its arithmetic.
        reason: Why, as a clause.
    """

    backend: str
    dtype: str
    reason: str

    @property
    def name(self) -> str:
        """Engine and type, as in `Backend.name`."""
        return f"{self.backend}-{self.dtype}"


class ChoiceFile:
    """Choices in a JSON file, by the circumstances in which they were made.

    A file that is damaged, or of another version, holds nothing and is written anew.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, circumstances: Mapping[str, Any]) -> Choice | None:
        """Return the choice made in just these circumstances, or None."""
        entry = self._entries().get(_key(circumstances))
        if not isinstance(entry, dict):
            return None
        backend, dtype, reason = (str(entry.get(name)) for name in ("backend", "dtype", "reason"))
        return Choice(backend, dtype, reason) if dtype in DTYPES.get(backend, ()) else None

    def keep(self, circumstances: Mapping[str, Any], choice: Choice, measured: Mapping[str, Any]) -> None:
        """Write a choice down, with what was measured for it; one writer at a time.

        Readers see the old file or the new one.

        Raises:
            OSError: The file can't be written.
        """
        entry = {
            "backend": choice.backend,
            "dtype": choice.dtype,
            "reason": choice.reason,
            "measured": measured,
            "circumstances": circumstances,
        }
        content = {"format_version": _FORMAT_VERSION, "choices": {**self._entries(), _key(circumstances): entry}}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=2), encoding="utf-8")
        new.replace(self.path)

    def _entries(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or damaged
            return {}
        if not isinstance(content, dict) or content.get("format_version") != _FORMAT_VERSION:
            return {}
        entries = content.get("choices")
        return entries if isinstance(entries, dict) else {}


def _key(circumstances: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(circumstances, sort_keys=True).encode(), digest_size=8).hexdigest()
