"""Questions with the texts that answer them, from a file."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rom_haystack.files import decode, whole_characters
from rom_haystack.unreadable import UnreadableSourceError

#: Between several answers in one cell of a table.
ANSWER_SEPARATOR = "|"

_TABLE = re.compile(r"\.(csv|tsv|tab)(\.gz)?$", re.IGNORECASE)
_ANSWER_COLUMN = re.compile(r"answers?[ _-]?\d*")
#: What may stand between a table's cells, by name; spreadsheets of many countries write semicolons.
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class Question:
    """A question on a paragraph.

    Attributes:
        query: The question.
        context: The paragraph; empty where the file names none.
        answers: Right answers; none where the paragraph has none.
        spans: Where they stand: first character, and the one after the last. None unless `read_squad` read them.
    """

    query: str
    context: str
    answers: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def read_questions(file: str | Path) -> list[tuple[str, tuple[str, ...]]]:
    """Read questions that have answers.

    Args:
        file: Any form that `parse_questions` reads. Questions without answers are left out.

    Returns:
        Questions with their answers, in file order.

    Raises:
        ValueError: The file is of no such form, or has no question with an answer.
        OSError: It can't be read.
    """
    path = Path(file)
    found = [(asked.query, asked.answers) for asked in _parse(path.read_bytes(), str(path)) if asked.answers]
    if not found:
        raise ValueError(f"{path}: no question with an answer there.")
    return found


def parse_questions(data: bytes, name: str) -> list[Question]:
    """Read the questions in a file's content, those without answers too.

    It may be gzip'd, and is one of these:

    - A table, by the ending of its name (.csv, .tsv, .tab), in any encoding, with commas, semicolons or tabs between
      its cells. Its first line names the columns `question` and `answer`; other columns are left alone. Several answers
      stand in several such columns (`answer`, `answer 2`, …), or in one with `|` between them. A question without
      any is unanswerable.
    - JSON lines, or a JSON list of the same objects (DPR's form). An object has a `question` and `answers`, a list of
      texts or of `{"text": …}`.
    - SQuAD's JSON.

    Args:
        data: The content.
        name: The file's name, for errors, too.

    Raises:
        ValueError: It is none of these, or has no question; the message names the file and the place.
    """
    found = list(_parse(data, name))
    if not found:
        raise ValueError(f"{name}: no question there.")
    return found


def read_squad(file: str | Path) -> list[Question]:
    """Read the questions of a file of SQuAD's form, 1.1 or 2.0, which may be gzip'd, with their paragraphs.

    Raises:
        ValueError: The file is of another form, or has no question.
        OSError: It can't be read.
    """
    path = Path(file)
    whole = _parsed(_text(path.read_bytes(), str(path)))
    if isinstance(whole, Exception):
        raise ValueError(f"{path}: not JSON ({whole}).")
    rows = enumerate(_squad_rows(whole), start=1)
    found = [_on_paragraph(context, row, f"{path}, question {number}") for number, (context, row) in rows]
    if not found:
        raise ValueError(f"{path}: no question there.")
    return found


def _parse(data: bytes, name: str) -> Iterator[Question]:
    if _TABLE.search(name):
        for query, answers in _table_rows(data, name):
            yield Question(query, "", answers, ())
        return
    for where, context, row in _rows(_text(data, name)):
        query, answers = _question(row, f"{name}, {where}")
        yield Question(query, whole_characters(context) if isinstance(context, str) else "", answers, ())


def _text(data: bytes, name: str) -> str:
    """Decode a text in UTF-8, behind its byte order mark if it has one."""
    try:
        return _unpacked(data, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not a text file in UTF-8, or a damaged one ({error}).") from error


def _unpacked(data: bytes, name: str) -> bytes:
    """Unpack gzip'd data, which is known by its first bytes."""
    try:
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name}: a damaged gzip file ({error}).") from error


def _table_rows(data: bytes, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give the questions of a table with their answers."""
    try:
        text = decode(_unpacked(data, name))
    except UnreadableSourceError as error:
        raise ValueError(f"{name}: {error}.") from error
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda mark: len(_answer_columns(_header(first.split(mark)))))
    rows = _lines(text, delimiter, name)
    line, header = next(rows, (1, []))
    named = _header(header)
    answer_columns = _answer_columns(named)
    if "question" not in named or not answer_columns:
        raise ValueError(
            f"{name}, line {line}: the first line must name the columns 'question' and 'answer', found "
            f"{', '.join(map(repr, named)) or 'nothing'}."
        )
    at = named.index("question")
    for line, cells in rows:
        if not max(at, answer_columns[0]) < len(cells) <= len(named):
            raise ValueError(
                f"{name}, line {line}: {len(cells)} cells under {len(named)} columns. Put quotation marks around texts "
                f"with a {_DELIMITERS[delimiter]} in them."
            )
        if not cells[at].strip():
            raise ValueError(f"{name}, line {line}, column 'question': no question there.")
        texts = [text.strip() for i in answer_columns if i < len(cells) for text in cells[i].split(ANSWER_SEPARATOR)]
        yield cells[at].strip(), tuple(dict.fromkeys(text for text in texts if text))


def _lines(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Give a table's rows with the numbers of their first lines; empty ones are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{name}, line {line}: a cell that can't be read ({error}).") from error
        if any(cell.strip() for cell in cells):
            yield line, cells


def _header(cells: list[str]) -> list[str]:
    return [cell.strip(' "').lower() for cell in cells]


def _answer_columns(named: list[str]) -> list[int]:
    return [index for index, column in enumerate(named) if _ANSWER_COLUMN.fullmatch(column)]


def _parsed(text: str) -> Any:
    """Parse JSON; return the error where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # huge numbers and deep nesting have errors of their own
        return error


def _rows(text: str) -> Iterator[tuple[str, Any, Any]]:
    """Give the objects of each question, with words for their places and the paragraphs that they are on, if any."""
    whole = _parsed(text)
    if isinstance(whole, Exception):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"line {number}", None, _parsed(line)
        return
    is_squad = isinstance(whole, dict) and "data" in whole
    rows = _squad_rows(whole) if is_squad else [(None, row) for row in (whole if isinstance(whole, list) else [whole])]
    for number, (context, row) in enumerate(rows, start=1):
        yield f"question {number}", context, row


def _squad_rows(whole: Any) -> list[tuple[Any, Any]]:
    """Give the paragraphs' texts with the objects of their questions; nothing with nothing, in another form."""
    try:
        return [
            (paragraph.get("context"), row)
            for article in whole["data"]
            for paragraph in article["paragraphs"]
            for row in paragraph["qas"]
        ]
    except (AttributeError, KeyError, TypeError):
        return [(None, None)]


def _question(row: Any, where: str) -> tuple[str, tuple[str, ...]]:
    question, answers = (row.get("question"), _answers(row)) if isinstance(row, dict) else (None, None)
    given = [a.get("text") if isinstance(a, dict) else a for a in answers] if isinstance(answers, list) else [None]
    known = [text for text in given if isinstance(text, str)]
    if not isinstance(question, str) or not question.strip() or len(known) < len(given):
        why = f" ({row})" if isinstance(row, Exception) else ""
        raise ValueError(f"{where}: not an object with a 'question' and a list of 'answers'{why}.")
    texts = (whole_characters(text) for text in known if text.strip())
    return whole_characters(question), tuple(dict.fromkeys(texts))


def _on_paragraph(context: Any, row: Any, where: str) -> Question:
    if not isinstance(context, str):
        raise ValueError(
            f"{where}: no question of SQuAD's form, a JSON object whose 'data' has 'paragraphs' with 'context' and "
            "'qas'."
        )
    query, answers = _question(row, where)
    try:
        spans = [(answer["answer_start"], answer["answer_start"] + len(answer["text"])) for answer in _answers(row)]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: an answer without a number 'answer_start'.") from error
    return Question(query, context, answers, tuple(spans))


def _answers(row: dict[str, Any]) -> Any:
    return [] if row.get("is_impossible") else row.get("answers", [])
