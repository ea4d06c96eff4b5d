"""The `rom` command: ask a folder of documents, index it, describe and export models."""

from rom_haystack.cli import documents, models, tuning
from rom_haystack.cli.app import ANSWERED, DEFAULT_MODEL, INTERRUPTED, MISTAKE, NO_ANSWER, NOTHING_INDEXED, app

__all__ = [
    "ANSWERED",
    "DEFAULT_MODEL",
    "INTERRUPTED",
    "MISTAKE",
    "NOTHING_INDEXED",
    "NO_ANSWER",
    "app",
    "documents",
    "main",
    "models",
    "tuning",
]


def main() -> None:
    """Run the `rom` command."""
    app()
