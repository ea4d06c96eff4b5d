"""What users say of answers, kept in a SQuAD file that `python -m training` reads."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from rom_haystack.durable import replace_file
from rom_haystack.files import whole_characters

Row = dict[str, Any]


class FeedbackError(ValueError):
    """What was said can't be kept; the message is for the one who said it."""


class FeedbackFile:
    """A SQuAD 2.0 file to which judgements of answers are added; threads and processes may do so at the same time.

    A question has one entry per passage. What is said last of an answer holds: the entry's `judgements`, which
    training passes over, tell what its answers follow from.

    Args:
        path: The file; it and its folder are made with the first judgement.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self,
        question: str,
        context: str,
        title: str,
        quote: str | None,
        start: int,
        *,
        right: bool,
        correction: str | None = None,
    ) -> None:
        """Keep a judgement.

        A right quote becomes an answer, and a wrong one a plausible answer of a question that is impossible to answer
        from this passage, unless its right words are given.

        Args:
            question: As it was asked.
            context: The whole passage.
            title: The document's title.
            quote: The answer that was given; None for "no answer".
            start: Where the quote begins in the passage.
            right: Whether it answers the question, or whether there is indeed no answer.
            correction: The right words of the passage, as far as they are known; case and white space may differ.

        Raises:
            FeedbackError: The quote or the correction does not stand in the passage, a wrong "no answer" comes without
                a correction, or the file can't be read or written.
        """
        if quote and not context.startswith(quote, start):
            raise FeedbackError(f"The answer '{quote}' does not stand at character {start} of the passage.")
        correct = None if right or not (correction or "").strip() else _find(correction or "", context, start)
        answer = _answer(quote, start)
        if not right and answer is None and correct is None:
            self.withdraw(question, context, title, quote, start)
            raise FeedbackError("If the passage does answer the question, copy its words into the field of the answer.")
        with self._changing() as whole:
            row = _row(whole, title, context, whole_characters(question.strip()))
            said = {"answer": answer, "right": right, "correction": correct}
            _tell(row, [*_of_others(_judgements(row), answer), said])

    def withdraw(self, question: str, context: str, title: str, quote: str | None, start: int) -> None:
        """Take back what was said of an answer, with its correction; nothing happens where nothing was.

        Args:
            question: As in `add`, as all the others.
            context: The whole passage.
            title: The document's title.
            quote: The answer; None for "no answer".
            start: Where the quote begins in the passage.

        Raises:
            FeedbackError: The file can't be read or written.
        """
        if not self.path.exists():
            return
        with self._changing() as whole:
            row = _row(whole, title, context, whole_characters(question.strip()))
            _tell(row, _of_others(_judgements(row), _answer(quote, start)))
            _drop_empty(whole)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Read the file, and write it again when the context is left without an error."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                whole = self._read()
                yield whole
                replace_file(self.path, json.dumps(whole, indent=1))
        except OSError as error:
            raise FeedbackError(f"{self.path} can't be written ({error.strerror or error}).") from error

    def _read(self) -> dict[str, Any]:
        try:
            whole: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            _check(whole)
        except FileNotFoundError:
            return {"version": "2.0", "data": []}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FeedbackError(
                f"{self.path} is no SQuAD file any more. Move it away or mend it, so that nothing in it is lost."
            ) from error
        return whole


def _check(whole: Any) -> None:
    """Look once at all that is used later, so that no odd file is half changed."""
    for article in whole["data"]:
        _ = article["title"]
        for paragraph in article["paragraphs"]:
            _ = paragraph["context"]
            for row in paragraph["qas"]:
                answers = [*row["answers"], *row.get("plausible_answers", [])]
                _ = row["question"], [answer["text"] for answer in answers], _judgements(row)


def _row(whole: dict[str, Any], title: str, context: str, question: str) -> Row:
    """Find the entry of a question on a passage, or make it."""
    article = _with(whole["data"], {"title": title}, {"paragraphs": []})
    paragraph = _with(article["paragraphs"], {"context": context}, {"qas": []})
    key = hashlib.blake2b(f"{question}\0{context}".encode(), digest_size=12).hexdigest()
    return _with(paragraph["qas"], {"question": question}, {"id": key, "answers": [], "judgements": []})


def _with(rows: list[Row], named: Row, others: Row) -> Row:
    """Find the row with a name, or append it with other fields."""
    found = next((row for row in rows if row.items() >= named.items()), None)
    if found is None:
        rows.append(found := named | others)
    return found


def _drop_empty(whole: dict[str, Any]) -> None:
    """Leave out questions of which nothing is said any more, and what held only those."""
    for article in whole["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [row for row in paragraph["qas"] if row.get("judgements") != []]
        article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
    whole["data"] = [article for article in whole["data"] if article["paragraphs"]]


def _judgements(row: Row) -> list[Row]:
    """What was said of a question's answers, the last word last; of a row that has only answers, what they mean."""
    if "judgements" in row:
        return [{name: said[name] for name in ("answer", "right", "correction")} for said in row["judgements"]]
    known = [(answer, True) for answer in row["answers"]]
    known += [(answer, False) for answer in row.get("plausible_answers", [])]
    return [{"answer": answer, "right": right, "correction": None} for answer, right in known or [(None, True)]]


def _of_others(judgements: list[Row], answer: Row | None) -> list[Row]:
    return [said for said in judgements if said["answer"] != answer]


def _tell(row: Row, judgements: list[Row]) -> None:
    """Write judgements into a row, and the answers that follow from them."""
    row.update(judgements=judgements, answers=[], is_impossible=True)
    row.pop("plausible_answers", None)
    for said in judgements:
        _judge(row, said["answer"], said["correction"], right=said["right"])


def _judge(row: Row, answer: Row | None, correct: Row | None, *, right: bool) -> None:
    """Sort an answer to the right or to the plausible ones; where "no answer" is right, nothing else is."""
    right_ones = [] if right and answer is None else _without(row["answers"], answer)
    plausible = _without(row.get("plausible_answers", []), answer)
    if answer is not None:
        (right_ones if right else plausible).append(answer)
    if correct is not None:
        right_ones = [*_without(right_ones, correct), correct]
        plausible = _without(plausible, correct)
    row["answers"], row["is_impossible"] = right_ones, not right_ones
    row.pop("plausible_answers", None)
    if plausible:
        row["plausible_answers"] = plausible


def _without(answers: list[Row], answer: Row | None) -> list[Row]:
    return [other for other in answers if other != answer]


def _answer(quote: str | None, start: int) -> Row | None:
    return {"text": quote, "answer_start": start} if quote else None


def _find(words: str, context: str, near: int) -> Row:
    """Find words in a passage, whatever their case and white space; where there are several, those nearest."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    found = min(re.finditer(pattern, context, re.IGNORECASE), key=lambda match: abs(match.start() - near), default=None)
    if found is None:
        raise FeedbackError(f"'{words.strip()}' does not stand in this passage. Copy the right words from it.")
    return {"text": found[0], "answer_start": found.start()}
