"""Safe output: text for terminals without control characters, JSON for machines."""

import json
import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text


def errors() -> Console:
    """Return the console for all that is no result."""
    return Console(stderr=True, highlight=False)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_rows(rows: dict[str, Any]) -> None:
    """Print names and values below each other."""
    output = Console(highlight=False)
    for name, value in rows.items():
        output.print(Text.assemble((f"{name:<15}", "bold"), printable(str(value))), soft_wrap=True)


def printable(text: str) -> str:
    """Put text on one line and take out control characters, which could command the terminal."""
    return "".join(map(_printable_character, text)).encode("utf-8", "replace").decode("utf-8")


def _printable_character(character: str) -> str:
    if character.isspace():
        return " "
    if character.isprintable() or character in "\u200c\u200d":  # these two shape the letters beside them
        return character
    return "" if unicodedata.category(character) == "Cf" else "\ufffd"
