"""ROM itself: configuration, model, heads and checkpoints. Needs torch and transformers only.

Importing this package is cheap, and finding checkpoints stays so: torch and transformers are imported when a name that
needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.places import DEFAULT_CHECKPOINT, bundled_checkpoints, resolve_checkpoint

if TYPE_CHECKING:
    from rom_haystack.modeling.checkpoints import load_checkpoint, save_checkpoint, save_release
    from rom_haystack.modeling.config import ROMConfig
    from rom_haystack.modeling.heads import HEADS, Head, register_head
    from rom_haystack.modeling.model import ROMModel

__all__ = [
    "DEFAULT_CHECKPOINT",
    "HEADS",
    "CheckpointError",
    "Head",
    "ROMConfig",
    "ROMModel",
    "bundled_checkpoints",
    "load_checkpoint",
    "register_head",
    "resolve_checkpoint",
    "save_checkpoint",
    "save_release",
]

_HOMES = {
    "HEADS": "heads",
    "Head": "heads",
    "ROMConfig": "config",
    "ROMModel": "model",
    "load_checkpoint": "checkpoints",
    "register_head": "heads",
    "save_checkpoint": "checkpoints",
    "save_release": "checkpoints",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
