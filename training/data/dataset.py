"""The common form of every format: passages, questions, and a count of what the form has no place for."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Passage:
    """One passage: a unit of retrieval and of reading."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """One question with its gold passage and the texts that answer it.

    Args:
        id: Name of the question.
        text: The question.
        answers: Texts that answer it, each once; empty where nothing does or where they are not known.
        passage_id: The gold passage, where the answers are read.
        starts: For each answer the code point of the gold passage's text at which it starts, None where unknown.
        unanswerable: The gold passage is known to hold no answer.
        other_positive_ids: Further passages that answer the question.
        hard_negative_ids: Passages that look as if they answered it, and do not.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    passage_id: str
    starts: tuple[int | None, ...] = ()
    unanswerable: bool = False
    other_positive_ids: tuple[str, ...] = ()
    hard_negative_ids: tuple[str, ...] = ()

    @property
    def positive_ids(self) -> tuple[str, ...]:
        """Every passage that answers the question, the gold one first."""
        return (self.passage_id, *self.other_positive_ids)


@dataclass(frozen=True)
class DataSet:
    """What a file or folder holds.

    Args:
        passages: Passages by id.
        questions: Questions in file order.
        left_out: How often the source holds something that this form has no place for, by its description.
    """

    passages: dict[str, Passage]
    questions: list[Question]
    left_out: Counter[str] = field(default_factory=Counter, compare=False)


class PassageCollector:
    """Collects passages; those of the same text become one, with the first id and the first title it came with."""

    def __init__(self, left_out: Counter[str]) -> None:
        self.passages: dict[str, Passage] = {}
        self._ids: dict[str, str] = {}
        self._left_out = left_out

    def add(self, text: str, title: str = "", passage_id: str = "") -> str:
        """Take a passage and return the id it goes by: its own unless that is empty or taken by another text."""
        known = self._ids.get(text)
        if known is None:
            known = passage_id if passage_id and passage_id not in self.passages else text_id(text)
            self._ids[text] = known
            self.passages[known] = Passage(known, title, text)
            return known
        before = self.passages[known]
        if title and not before.title:
            self.passages[known] = Passage(known, title, text)
        elif title not in ("", before.title):
            self._left_out["further title of a passage (the first is kept)"] += 1
        return known


def text_id(text: str) -> str:
    """Name a passage by its text, as formats without ids need it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
