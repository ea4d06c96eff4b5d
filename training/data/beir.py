"""BEIR's folders (Thakur et al., 2021): passages, queries, and which passages are relevant to which query.

A folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`), either one gzip'd or plain, and
`qrels/<split>.tsv`: a head line, then query id, passage id and grade of relevance, with tabs between them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from training.data.dataset import DataSet, Draft, Passage, Question
from training.data.fields import count_unread, label_field, text_field
from training.data.json_files import text_lines
from training.data.jsonl import folder_rows
from training.data.numbered import in_order
from training.errors import DataError

#: Splits in the order in which training and measuring look for them.
TRAINING_SPLITS = ("train", "dev", "test")
TEST_SPLITS = ("test", "dev", "train")
_COLUMNS = 3


def beir_files(folder: Path) -> list[Path]:
    """Return the files that training reads from a folder; none where it is not of BEIR's form."""
    texts = [next(iter(sorted(folder.glob(f"{stem}.jsonl*"))), None) for stem in ("corpus", "queries")]
    found = [path for path in (*texts, judgments_file(folder, TRAINING_SPLITS)) if path is not None]
    return found if all(texts) else []


def judgments_file(folder: Path, splits: Sequence[str]) -> Path | None:
    """Return the judgments of the first of some splits that a folder has."""
    return next((path for split in splits if (path := folder / "qrels" / f"{split}.tsv").is_file()), None)


def judgment_rows(
    path: Path, is_query: Callable[[str], bool], is_passage: Callable[[str], bool]
) -> Iterator[tuple[str, str, int]]:
    """Read judgments: query id, passage id and grade.

    Args:
        path: The file.
        is_query: Whether there is a query of an id.
        is_passage: Whether there is a passage of an id.

    Raises:
        DataError: The file can't be read, has no head line, or a line has other fields, or names what is not there.
    """
    for number, line in enumerate(text_lines(path), start=1):
        fields = line.rstrip("\n").split("\t")
        where = f"{path}, line {number}"
        if number == 1:
            if is_query(fields[0]):
                raise DataError(f"{where}: a judgment, where the head line must be: query-id, corpus-id, score.")
            continue
        if fields == [""]:
            continue
        if len(fields) != _COLUMNS:
            raise DataError(f"{where}: {len(fields)} fields; it must be query id, passage id and grade, with tabs.")
        query, passage, grade = fields
        if not is_query(query):
            raise DataError(f"{where}: query '{query}' is not in queries.jsonl.")
        if not is_passage(passage):
            raise DataError(f"{where}: passage '{passage}' is not in corpus.jsonl.")
        try:
            yield query, passage, int(grade)
        except ValueError:
            raise DataError(f"{where}: the grade must be a whole number, found {grade!r}.") from None


def read_texts(folder: Path, draft: Draft) -> dict[str, str]:
    """Read a folder's passages into a draft, and return its queries by id.

    Raises:
        DataError: A file is missing, a line lacks a field, or an id belongs to two passages or queries.
    """
    for where, row in folder_rows(folder, "corpus"):
        title, text = (label_field(row, [field], where) for field in ("title", "text"))
        draft.keep_new(Passage(text_field(row, "_id", where), title, text), where)
        count_unread(row, ("_id", "title", "text", "metadata"), "a passage", draft.left_out)
    queries: dict[str, str] = {}
    for where, row in folder_rows(folder, "queries"):
        name, text = text_field(row, "_id", where), text_field(row, "text", where)
        if queries.setdefault(name, text) != text:
            raise DataError(f"{where}: the id '{name}' belongs to a query before it, of another text.")
    return queries


def read_beir(folder: Path, draft: Draft) -> DataSet:
    """Read a folder, with the judgments of its training split, or else its development or test split.

    Passages with a grade above 0 answer a query, the one of the highest grade first; the others that were judged are
    hard negatives. Where in them the answer stands is not known, so that these questions train retrieval alone.

    Raises:
        DataError: A file is missing, a line lacks a field, a judged passage or query is not there, or nothing is
            relevant.
    """
    queries = read_texts(folder, draft)
    path = judgments_file(folder, TRAINING_SPLITS)
    if path is None:
        raise no_judgments(folder, TRAINING_SPLITS)
    judged: dict[str, list[tuple[int, str]]] = {}
    for query, passage, grade in judgment_rows(
        path, queries.__contains__, lambda name: draft.passage(name) is not None
    ):
        judged.setdefault(query, []).append((grade, passage))
    for query, passages in judged.items():
        passages.sort(key=lambda of: -of[0])
        positives = [passage for grade, passage in passages if grade > 0]
        if not positives:
            draft.left_out["query without a relevant passage"] += 1
            continue
        gold, *others = positives
        negatives = tuple(passage for grade, passage in passages if grade <= 0)
        draft.ask(
            Question(query, queries[query], (), gold, other_positive_ids=tuple(others), hard_negative_ids=negatives)
        )
    draft.left_out["query that was not judged"] += len(queries.keys() - judged.keys())
    return draft.finished()


def write_beir(data: DataSet, folder: Path) -> Counter[str]:
    """Write a folder; the training split judges passages that answer a question by 1, hard negatives by 0.

    Returns:
        What BEIR has no place for, counted by its description.
    """
    left_out: Counter[str] = Counter()
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as lines:
        for passage in in_order(data.passages):
            lines.write(json.dumps({"_id": passage.id, "title": passage.title, "text": passage.text}) + "\n")
    with (
        (folder / "queries.jsonl").open("w", encoding="utf-8") as queries,
        (folder / "qrels" / "train.tsv").open("w", encoding="utf-8", newline="") as qrels,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for question in data.questions:
            if question.unanswerable:
                left_out["question without an answer"] += 1
                continue
            left_out["answer of a question"] += len(question.answers)
            queries.write(json.dumps({"_id": question.id, "text": question.text}) + "\n")
            for grade, passage_ids in ((1, question.positive_ids), (0, question.hard_negative_ids)):
                qrels.writelines(_judgment(question.id, passage_id, grade) for passage_id in passage_ids)
    return left_out


def _judgment(query_id: str, passage_id: str, grade: int) -> str:
    for name in (query_id, passage_id):
        if len(name.splitlines()) != 1 or "\t" in name:
            raise DataError(f"The id {name!r} has a tab or line break, or is empty; BEIR's judgments can't hold it.")
    return f"{query_id}\t{passage_id}\t{grade}\n"


def no_judgments(folder: Path, splits: Sequence[str]) -> DataError:
    """Say that a folder has no judgments."""
    return DataError(f"{folder}: no qrels/{'.tsv, '.join(splits)}.tsv there, so nothing says what is relevant.")
