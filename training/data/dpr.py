"""DPR's JSON (Karpukhin et al., 2020): a list of questions, each with its positive and negative passages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from training.data.dataset import DataSet, Draft, Question
from training.data.fields import an_object, count_unread, label_field, list_field, text_field
from training.data.json_files import json_items, json_lines, written_to
from training.data.numbered import numbered
from training.errors import DataError

_POSITIVE, _NEGATIVE, _HARD = "positive_ctxs", "negative_ctxs", "hard_negative_ctxs"
_IDS = ("passage_id", "psg_id")


def read_dpr(path: Path, draft: Draft | None = None) -> DataSet:
    """Read a DPR file item by item; passages that occur again are kept once.

    All its passages are kept, those of `negative_ctxs` too, and train as what no question asks for. An item's first
    positive that holds an answer, else its first, is the gold passage. Items without positives are left out. A file
    ending in `.jsonl` holds an item per line.

    Args:
        path: The file.
        draft: What is read into; None for memory.

    Raises:
        DataError: The file can't be read, is no DPR file, or a field is missing or of the wrong type.
    """
    draft = draft or Draft()
    by_line = ".jsonl" in path.suffixes
    for number, item in json_lines(path) if by_line else json_items(path):
        where = f"{path}, {'line' if by_line else 'item'} {number}"
        question = _question(an_object(item, where), number, where, draft)
        if question is not None:
            draft.ask(question)
    return draft.finished()


def write_dpr(data: DataSet, path: Path, name: str) -> Counter[str]:
    """Write a DPR file, item by item.

    Args:
        data: What to write.
        path: The file.
        name: What every item's `dataset` says.

    Returns:
        What DPR has no place for, counted by its description.
    """
    left_out: Counter[str] = Counter()
    passages, written = numbered(data.passages), 0
    named = np.zeros(len(data.passages), bool)
    with written_to(path) as file:
        file.write("[\n")
        for question in data.questions:
            if question.unanswerable:
                left_out["unanswerable question"] += 1
                continue
            left_out["offset of an answer"] += sum(start is not None for start in question.starts)
            item = {
                "id": question.id,
                "dataset": name,
                "question": question.text,
                "answers": question.answers,
                _POSITIVE: [_context(data, passage_id) for passage_id in question.positive_ids],
                _NEGATIVE: [],
                _HARD: [_context(data, passage_id) for passage_id in question.hard_negative_ids],
            }
            named[[passages.number(name) for name in (*question.positive_ids, *question.hard_negative_ids)]] = True
            file.write(",\n" * bool(written) + json.dumps(item))
            written += 1
        file.write("\n]\n")
    left_out["passage that no question names"] += int((~named).sum())
    return left_out


def _question(item: dict[str, Any], number: int, where: str, draft: Draft) -> Question | None:
    text = text_field(item, "question", where)
    answers = list_field(item, "answers", where, optional=True)
    for answer in answers:
        if not isinstance(answer, str) or not answer:
            raise DataError(f"{where}: field 'answers' must hold non-empty texts, found {answer!r}.")
    positives, negatives, hard = (
        [
            _passage(context, f"{where}, {field} {position}", draft)
            for position, context in enumerate(list_field(item, field, where, optional=field != _POSITIVE), start=1)
        ]
        for field in (_POSITIVE, _NEGATIVE, _HARD)
    )
    count_unread(item, ("id", "question", "answers", _POSITIVE, _NEGATIVE, _HARD), "an item", draft.left_out)
    draft.left_out["link from a question to a plain negative (the passage is kept)"] += len(negatives)
    if not positives:
        draft.left_out["question without positive passages"] += 1
        return None
    draft.left_out["repeated answer of a question"] += len(answers) - len(set(answers))
    texts = [context["text"] for context in item[_POSITIVE]]
    gold = next((p for p, t in zip(positives, texts, strict=True) if any(a in t for a in answers)), positives[0])
    return Question(
        id=label_field(item, ("id",), where) or str(number),
        text=text,
        answers=tuple(dict.fromkeys(answers)),
        passage_id=gold,
        other_positive_ids=tuple(dict.fromkeys(p for p in positives if p != gold)),
        hard_negative_ids=tuple(dict.fromkeys(p for p in hard if p not in positives)),
    )


def _passage(context: Any, where: str, draft: Draft) -> str:
    row = an_object(context, where)
    count_unread(row, ("title", "text", *_IDS), "a passage", draft.left_out)
    title = label_field(row, ("title",), where)
    return draft.merge(text_field(row, "text", where), title, label_field(row, _IDS, where))


def _context(data: DataSet, passage_id: str) -> dict[str, str]:
    passage = data.passages[passage_id]
    return {"title": passage.title, "text": passage.text, "passage_id": passage.id}
