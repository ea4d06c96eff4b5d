"""What libraries find in the environment; must be set before they are imported."""

import os


def set_environment() -> None:
    """Keep libraries from calling home, from chatting and from measuring engines while someone waits."""
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # `demo.core.engine` has them measured in the background.
    os.environ.setdefault("ROM_BACKEND", "measured")
