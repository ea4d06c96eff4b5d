"""The common form of every format: passages, questions, and a count of what the form has no place for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.errors import DataError


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
    """What a file or folder holds, in memory or on disk (`training.data.stored`).

    Args:
        passages: Passages by id.
        questions: Questions in file order.
        left_out: How often the source holds something that this form has no place for, by its description.
    """

    passages: Mapping[str, Passage]
    questions: Sequence[Question]
    left_out: Counter[str] = field(default_factory=Counter, compare=False)


class Draft:
    """A data set that is being read, kept in memory.

    Attributes:
        left_out: As in `DataSet`; whoever reads counts there.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._passages: dict[str, Passage] = {}
        self._questions: list[Question] = []
        self._ids: dict[str, str] = {}

    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage of an id, if it is there."""
        return self._passages.get(passage_id)

    def keep(self, passage: Passage) -> None:
        """Take a passage, in place of the one of its id if there is one."""
        self._passages[passage.id] = passage

    def keep_new(self, passage: Passage, where: str) -> None:
        """Take a passage whose id must be its own; where its text is told again, the later title counts.

        Raises:
            DataError: The id belongs to a passage of another text; `where` says where this one stands.
        """
        before = self.passage(passage.id)
        if before is not None and before.text != passage.text:
            raise DataError(f"{where}: the id '{passage.id}' belongs to a passage before it, of another text.")
        self.keep(passage)

    def ask(self, question: Question) -> None:
        """Take a question."""
        self._questions.append(question)

    def merge(self, text: str, title: str = "", passage_id: str = "") -> str:
        """Take a passage; those of the same text become one, with the first id and the first title it came with.

        Returns:
            The id it goes by: its own unless that is empty or taken by another text.
        """
        known = self._of_text(text)
        if known is None:
            name = passage_id if passage_id and self.passage(passage_id) is None else text_id(text)
            self._keep_by_text(Passage(name, title, text))
            return name
        if title and not known.title:
            self.keep(Passage(known.id, title, text))
        elif title not in ("", known.title):
            self.left_out["further title of a passage (the first is kept)"] += 1
        return known.id

    def finished(self) -> DataSet:
        """Return the data set."""
        return DataSet(self._passages, self._questions, self.left_out)

    def _of_text(self, text: str) -> Passage | None:
        name = self._ids.get(text)
        return None if name is None else self._passages[name]

    def _keep_by_text(self, passage: Passage) -> None:
        self._ids[passage.text] = passage.id
        self.keep(passage)


def digest(text: str) -> int:
    """Return 64 bits of a text's SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8])


def text_id(text: str) -> str:
    """Name a passage by its text, as formats without ids need it."""
    return f"{digest(text):016x}"
