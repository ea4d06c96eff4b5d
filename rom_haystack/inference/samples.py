"""Questions with their answers in a few texts, to measure engines with."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
SAMPLE_CORPUS = _PACKAGE / "sample_corpus"
SAMPLE_QUESTIONS = _PACKAGE / "sample_questions.tsv"

_COLUMNS = ("file", "question", "answer")


@dataclass(frozen=True)
class Question:
    """A question of a sample.

    Attributes:
        text: The question.
        answer: Its answer, as it stands in the passage.
        passage: Index of the first passage with the answer in it.
    """

    text: str
    answer: str
    passage: int


@dataclass(frozen=True)
class Sample:
    """Passages, and questions about them.

    Attributes:
        passages: Paragraphs of the texts, without headings.
        questions: At least one.
    """

    passages: tuple[str, ...]
    questions: tuple[Question, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Each question with the passage that answers it."""
        return [(question.text, self.passages[question.passage]) for question in self.questions]


def read_sample(
    questions: Path = SAMPLE_QUESTIONS, folder: Path = SAMPLE_CORPUS, *, part: slice = slice(None)
) -> Sample:
    """Read questions and the texts that they are about. Default: the bundled sample.

    Args:
        questions: Tab-separated file with the columns `file`, `question` and `answer`; quotes need no escaping.
        folder: Where the files (text or Markdown, UTF-8) lie.
        part: Which of the files to take, in their order, with all their questions; parts of different files share
            nothing.

    Raises:
        ValueError: A file can't be read, holds no question, or an answer does not stand in a paragraph of its file.
    """
    rows = _rows(questions)
    names = list(dict.fromkeys(row["file"] for row in rows))[part]
    if rows and not names:
        raise ValueError(
            f"{questions} asks about a single file; ask about two or more, as one half of the files is to quantise by "
            "and the other to measure on."
        )
    passages: list[str] = []
    found: list[Question] = []
    for name in names:
        first = len(passages)
        passages += _paragraphs(_read(folder / name))
        for row in rows:
            if row["file"] != name:
                continue
            place = next((i for i in range(first, len(passages)) if row["answer"] in passages[i]), None)
            if place is None:
                raise ValueError(
                    f"{questions}: no paragraph of '{name}' holds the answer '{row['answer']}'. Quote it as it stands "
                    "there."
                )
            found.append(Question(row["question"], row["answer"], place))
    if not found:
        raise ValueError(f"{questions} holds no questions; give at least one row below {', '.join(_COLUMNS)}.")
    return Sample(tuple(passages), tuple(found))


def _rows(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(_read(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows: list[dict[str, str]] = []
    for row in reader:
        cells = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        missing = [name for name, cell in cells.items() if not cell]
        if missing:
            raise ValueError(
                f"{path}, line {reader.line_num}: no {' and no '.join(missing)}. Each row needs the columns "
                f"{', '.join(_COLUMNS)}, separated by tabs and named in the first line."
            )
        rows.append(cells)
    return rows


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}.") from error


def _paragraphs(text: str) -> list[str]:
    blocks = ("\n".join(line for line in block.splitlines() if not line.startswith("#")) for block in _blocks(text))
    return [block.strip() for block in blocks if block.strip()]


def _blocks(text: str) -> list[str]:
    return re.split(r"\n\s*\n", text)
