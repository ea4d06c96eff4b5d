"""Questions to begin with, on the sample corpus."""

import csv
from functools import cache
from pathlib import Path

import rom_haystack

_FILE = Path(rom_haystack.__file__).with_name("sample_questions.tsv")

#: What the sample corpus does not say.
UNANSWERABLE = "What does a litre of milk cost?"


@cache
def sample_questions() -> tuple[str, ...]:
    """Return a question on each document of the sample corpus, in the order of the bundled file."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(row["question"] for row in csv.DictReader(file, delimiter="\t"))


def choice(turn: int, count: int) -> list[str]:
    """Choose questions on documents of different kinds.

    Args:
        turn: Which choice; each has other questions, until all were there.
        count: How many.
    """
    questions = sample_questions()
    stride = -(-len(questions) // count)
    return [questions[(number * stride + turn) % len(questions)] for number in range(count)]
