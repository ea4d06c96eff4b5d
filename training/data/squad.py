"""SQuAD's JSON, versions 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018): articles of paragraphs of questions."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from training.data.dataset import DataSet, Draft, Question, text_id
from training.data.fields import (
    an_object,
    count_unread,
    flag_field,
    label_field,
    list_field,
    offset_field,
    text_field,
)
from training.data.json_files import json_items, written_to
from training.data.numbered import numbered
from training.errors import DataError

#: Fields that are read, and `plausible_answers`, which look right and are wrong; nothing is trained on them.
_QUESTION_FIELDS = ("id", "question", "answers", "is_impossible", "plausible_answers")


def read_squad(path: Path, draft: Draft | None = None) -> DataSet:
    """Read a SQuAD file, article by article. Its paragraphs become passages, named by their text.

    Args:
        path: The file.
        draft: What is read into; None for memory.

    Raises:
        DataError: The file can't be read, is no SQuAD file, or a field is missing or of the wrong type.
    """
    draft = draft or Draft()
    index = 0
    for index, item in json_items(path, "data", "article"):
        _read_article(item, f"{path}, article {index}", draft)
    if not index:
        raise DataError(
            f"{path}: no articles there. A SQuAD file is an object with a list 'data' of articles; a DPR file is a "
            "list of questions with 'positive_ctxs'."
        )
    return draft.finished()


def write_squad(data: DataSet, path: Path) -> Counter[str]:
    """Write a SQuAD file, article by article: version 2.0 if a question is unanswerable, else 1.1.

    Answers stand where their offsets say, else where they are found in the gold passage. Each passage without a title
    is an article.

    Returns:
        What SQuAD has no place for, counted by its description.
    """
    left_out: Counter[str] = Counter()
    version = "2.0" if any(question.unanswerable for question in data.questions) else "1.1"
    passages = numbered(data.passages)
    gold = np.fromiter((passages.number(q.passage_id) for q in data.questions), np.int64, len(data.questions))
    by_passage = np.argsort(gold, kind="stable")
    gold = gold[by_passage]

    def paragraph(number: int) -> dict[str, Any]:
        passage = passages.in_order[number]
        left_out["id of a passage"] += passage.id != text_id(passage.text)
        first, end = gold.searchsorted([number, number + 1])
        questions = [data.questions[index] for index in by_passage[first:end].tolist()]
        rows = [_row(question, passage.text, left_out) for question in questions]
        impossible = [{"is_impossible": q.unanswerable} if version == "2.0" else {} for q in questions]
        qas = [row | more for row, more in zip(rows, impossible, strict=True) if row is not None]
        return {"context": passage.text, "qas": qas}

    with written_to(path) as file:
        file.write(f'{{"version": "{version}", "data": [\n')
        written = False
        for number, passage in enumerate(passages.in_order):
            article = passages.article(passage.title) or [number]
            if article[0] == number:
                paragraphs = [paragraph(member) for member in article]
                file.write(",\n" * written + json.dumps({"title": passage.title, "paragraphs": paragraphs}))
                written = True
        file.write("\n]}\n")
    return left_out


def find_answer(answer: str, text: str) -> int | None:
    """Find where an answer stands in a text, as whole words if it does anywhere; None where it does not."""
    whole = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    place = whole.start() if whole else text.find(answer)
    return None if place < 0 else place


def _read_article(item: Any, in_article: str, draft: Draft) -> None:
    article = an_object(item, in_article)
    title = label_field(article, ("title",), in_article)
    count_unread(article, ("title", "paragraphs"), "an article", draft.left_out)
    for number, entry in enumerate(list_field(article, "paragraphs", in_article), start=1):
        in_paragraph = f"{in_article}, paragraph {number}"
        paragraph = an_object(entry, in_paragraph)
        context = text_field(paragraph, "context", in_paragraph)
        passage_id = draft.merge(context, title)
        count_unread(paragraph, ("context", "qas"), "a paragraph", draft.left_out)
        for position, row in enumerate(list_field(paragraph, "qas", in_paragraph), start=1):
            where = f"{in_paragraph}, question {position}"
            draft.ask(_question(an_object(row, where), passage_id, context, where, draft.left_out))


def _question(row: dict[str, Any], passage_id: str, context: str, where: str, left_out: Counter[str]) -> Question:
    starts: dict[str, int | None] = {}
    answers = list_field(row, "answers", where, optional=True)
    for answer in answers:
        text = text_field(answer, "text", where)
        start = offset_field(answer, "answer_start", where)
        if start is not None and not context.startswith(text, start):
            left_out["offset of an answer that stands elsewhere"] += 1
            start = None
        if starts.get(text) is None:
            starts[text] = start
        count_unread(answer, ("text", "answer_start"), "an answer", left_out)
    unanswerable = flag_field(row, "is_impossible", where)
    if unanswerable:
        left_out["answer of an impossible question"] += len(answers)
        starts = {}
    else:
        left_out["repeated answer of a question"] += len(answers) - len(starts)
    if row.get("plausible_answers"):
        left_out["list of plausible answers"] += 1
    count_unread(row, _QUESTION_FIELDS, "a question", left_out)
    question_id = label_field(row, ("id",), where)
    if not question_id:
        raise DataError(f"{where}: field 'id' must be non-empty text, found {row.get('id')!r}.")
    return Question(
        id=question_id,
        text=text_field(row, "question", where),
        answers=tuple(starts),
        passage_id=passage_id,
        starts=tuple(starts.values()),
        unanswerable=unanswerable,
    )


def _row(question: Question, text: str, left_out: Counter[str]) -> dict[str, Any] | None:
    answers = []
    for answer, known in zip(question.answers, question.starts or (None,) * len(question.answers), strict=True):
        start = known if known is not None and text.startswith(answer, known) else find_answer(answer, text)
        if start is None:
            left_out["answer that is not in the gold passage"] += 1
        else:
            answers.append({"text": answer, "answer_start": start})
    if not answers and not question.unanswerable:
        left_out["question without an answer in the gold passage"] += 1
        return None
    left_out["further positive passage of a question"] += len(question.other_positive_ids)
    left_out["hard negative of a question"] += len(question.hard_negative_ids)
    return {"id": question.id, "question": question.text, "answers": answers}
