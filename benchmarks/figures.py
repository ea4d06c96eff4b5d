"""Results as nested mappings, and the way to one figure in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def figure_at(results: Mapping[str, Any], keys: str) -> float | None:
    """Look a figure up by its keys, joined by dots; None where it was not measured."""
    found: Any = results
    for key in keys.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return float(found) if isinstance(found, int | float) else None
