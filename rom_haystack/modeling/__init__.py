"""ROM itself: configuration, model, heads and checkpoints. Needs torch and transformers only."""

from rom_haystack.modeling.checkpoints import (
    DEFAULT_CHECKPOINT,
    bundled_checkpoints,
    load_checkpoint,
    resolve_checkpoint,
    save_release,
)
from rom_haystack.modeling.config import ROMConfig
from rom_haystack.modeling.errors import CheckpointError
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
    "save_release",
]
