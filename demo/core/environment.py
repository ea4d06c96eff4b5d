"""What libraries find in the environment, which must be set before they are imported; and how they are imported."""

import os
from functools import cache

from rom_haystack.cli.quiet import importing, quiet
from rom_haystack.modeling import DEFAULT_CHECKPOINT


def set_environment() -> None:
    """Keep libraries from calling home, from chatting and from measuring engines while someone waits."""
    quiet(DEFAULT_CHECKPOINT)
    # `demo.core.engine` has them measured in the background.
    os.environ.setdefault("ROM_BACKEND", "measured")


@cache
def import_libraries() -> None:
    """Import what answering takes, once and fast; the environment must be set."""
    with importing():
        from demo.core import asking, shelf  # noqa: F401, PLC0415 (see the module)
