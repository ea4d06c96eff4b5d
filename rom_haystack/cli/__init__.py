"""The `rom` command: ask a folder of documents, index it, serve it, describe, export and convert models."""

from rom_haystack.cli import convert, documents, models, serve, tuning
from rom_haystack.cli.app import ANSWERED, DEFAULT_MODEL, INTERRUPTED, MISTAKE, NO_ANSWER, NOTHING_INDEXED, app

__all__ = [
    "ANSWERED",
    "DEFAULT_MODEL",
    "INTERRUPTED",
    "MISTAKE",
    "NOTHING_INDEXED",
    "NO_ANSWER",
    "app",
    "convert",
    "documents",
    "main",
    "models",
    "serve",
    "tuning",
]


def main() -> None:
    """Run the `rom` command."""
    app()
