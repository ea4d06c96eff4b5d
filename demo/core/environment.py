"""What libraries find in the environment; must be set before they are imported."""

import os

from rom_haystack.cli.quiet import quiet
from rom_haystack.modeling import DEFAULT_CHECKPOINT


def set_environment() -> None:
    """Keep libraries from calling home, from chatting and from measuring engines while someone waits."""
    quiet(DEFAULT_CHECKPOINT)
    # `demo.core.engine` has them measured in the background.
    os.environ.setdefault("ROM_BACKEND", "measured")
