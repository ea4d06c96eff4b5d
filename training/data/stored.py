"""Data sets on disk: texts are read when they are asked for.

A store is a folder. Passages and questions are lines of JSON (`training.data.records`); digests of ids and titles lead
to the passages' numbers (`training.data.lookup`). In memory a data set takes nothing but what the system keeps of the
mapped tables: 36 bytes a passage, 12 a question. Any number of processes may read it, forked ones too.

A flat file and sorted tables, rather than SQLite or Arrow: a passage takes one read at a known place, forks share the
file as it is, and building needs no index that is written to all over the disk.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataSet, Draft, Passage, Question, digest
from training.data.lookup import GrowingLookup, Lookup, find
from training.data.numbered import Lazy, Numbered
from training.data.records import RecordReader, RecordWriter

_PASSAGES, _QUESTIONS, _TITLES, _LEFT_OUT = "passages", "questions", "titles", "left_out.json"


class StoredPassages(Numbered, Mapping[str, Passage]):
    """Passages in a store, by id and by number.

    Args:
        folder: The store.
    """

    def __init__(self, folder: Path) -> None:
        records = RecordReader(folder / _PASSAGES)
        self.in_order: Sequence[Passage] = Lazy(len(records), lambda number: Passage(*records[number]))
        self._ids, self._titles = Lookup.load(folder / _PASSAGES), Lookup.load(folder / _TITLES)

    def number(self, passage_id: str) -> int:
        """Return a passage's number."""
        return self._find(passage_id)[0]

    def article(self, title: str) -> Sequence[int]:
        """Return the numbers of an article's passages.

        Articles whose titles share 64 bits of SHA-256 are one. Among the three million of Wikipedia some do with a
        probability of 1 in 4 million.
        """
        return _integers(self._titles.rows(digest(title))) if title else ()

    def __getitem__(self, passage_id: str) -> Passage:
        return self._find(passage_id)[1]

    def __iter__(self) -> Iterator[str]:
        return (passage.id for passage in self.in_order)

    def __len__(self) -> int:
        return len(self.in_order)

    def _find(self, passage_id: str) -> tuple[int, Passage]:
        read: list[Passage] = []

        def fits(row: int) -> bool:
            read.append(self.in_order[row])
            return read[-1].id == passage_id

        row, _ = find(self._ids, digest(passage_id), fits)
        if row is None:
            raise KeyError(passage_id)
        return row, read[-1]


class StoredDraft(Draft):
    """A data set that is being read into a folder; see `Draft`.

    It takes 24 bytes of memory a passage, 36 where passages of the same text become one, and 12 a question.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._passage_records = RecordWriter(folder / _PASSAGES)
        self._question_records = RecordWriter(folder / _QUESTIONS)
        self._by_id, self._by_text = GrowingLookup(), GrowingLookup()

    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage of an id, if it is there."""
        row, _ = self._row(passage_id)
        return None if row is None else self._read(row)

    def keep(self, passage: Passage) -> None:
        """Take a passage, in place of the one of its id if there is one."""
        self._put(passage)

    def ask(self, question: Question) -> None:
        """Take a question."""
        self._question_records.append(list(vars(question).values()))

    def finished(self) -> DataSet:
        """Write what is still to be written, and open the data set."""
        self._passage_records.close(save=True)
        self._question_records.close(save=True)
        self._by_id.save(self._folder / _PASSAGES)
        del self._by_id, self._by_text
        self._save_titles()
        (self._folder / _LEFT_OUT).write_text(json.dumps(+self.left_out), encoding="utf-8")
        return open_stored(self._folder)

    def close(self) -> None:
        """Close the files of a data set that will not be finished."""
        self._passage_records.close(save=False)
        self._question_records.close(save=False)

    def _of_text(self, text: str) -> Passage | None:
        row, _ = find(self._by_text, digest(text), lambda row: self._read(row).text == text)
        return None if row is None else self._read(row)

    def _keep_by_text(self, passage: Passage) -> None:
        row = self._put(passage)
        _, free = find(self._by_text, digest(passage.text), lambda row: self._read(row).text == passage.text)
        self._by_text.add(free, row)

    def _row(self, passage_id: str) -> tuple[int | None, int]:
        return find(self._by_id, digest(passage_id), lambda row: self._read(row).id == passage_id)

    def _put(self, passage: Passage) -> int:
        record = [passage.id, passage.title, passage.text]
        row, key = self._row(passage.id)
        if row is None:
            row = self._passage_records.append(record)
            self._by_id.add(key, row)
        else:
            self._passage_records.replace(row, record)
        return row

    def _read(self, row: int) -> Passage:
        return Passage(*self._passage_records[row])

    def _save_titles(self) -> None:
        records = RecordReader(self._folder / _PASSAGES)
        titles = (Passage(*records[row]).title for row in range(len(records)))
        digests = np.fromiter((digest(title) if title else 0 for title in titles), np.uint64, len(records))
        rows = np.flatnonzero(digests).astype(np.uint32)
        Lookup.sorted(digests[rows], rows).save(self._folder / _TITLES)


def open_stored(folder: Path) -> DataSet:
    """Open a store."""
    questions = RecordReader(folder / _QUESTIONS)
    left_out = Counter[str](json.loads((folder / _LEFT_OUT).read_text(encoding="utf-8")))
    return DataSet(StoredPassages(folder), Lazy(len(questions), lambda row: _question(questions[row])), left_out)


def _question(record: list[Any]) -> Question:
    fields: list[Any] = [tuple(value) if isinstance(value, list) else value for value in record]
    return Question(*fields)


def _integers(rows: NDArray[np.uint32]) -> Sequence[int]:
    return Lazy(len(rows), lambda index: int(rows[index]))
