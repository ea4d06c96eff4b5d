"""A workload on disk: documents with embeddings, queries and questions, read alike by every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

CATEGORIES = 100

_DESCRIPTION, _TEXTS, _VECTORS = "workload.json", "texts.jsonl", "vectors.npy"
_QUERIES, _QUESTIONS = "queries.npy", "questions.json"


@dataclass(frozen=True)
class Workload:
    """What is written to a store and asked of it. Row numbers name documents.

    Args:
        folder: Where `write_workload` put it.
    """

    folder: Path

    @property
    def size(self) -> int:
        """Number of documents."""
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.vectors.shape[1])

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The documents' embeddings, `[size, dim]`, unit length, memory-mapped."""
        return np.asarray(np.load(self.folder / _VECTORS, mmap_mode="r"))

    @cached_property
    def queries(self) -> NDArray[np.float32]:
        """The queries' embeddings, `[number of queries, dim]`, unit length."""
        return np.asarray(np.load(self.folder / _QUERIES))

    @cached_property
    def questions(self) -> list[str]:
        """Questions for keyword search; they have nothing to do with `queries` where those are synthetic."""
        return [str(question) for question in json.loads((self.folder / _QUESTIONS).read_text(encoding="utf-8"))]

    def batches(self, batch_size: int) -> Iterator[list[Document]]:
        """Make the documents, batch by batch in row order, with embeddings as lists of floats."""
        with (self.folder / _TEXTS).open(encoding="utf-8") as lines:
            rows = enumerate(lines)
            while batch := [
                _document(row, json.loads(line), self.vectors[row]) for row, line in islice(rows, batch_size)
            ]:
                yield batch


def is_written(folder: Path, description: dict[str, Any]) -> bool:
    """Tell whether a folder holds the whole workload of this description."""
    file = folder / _DESCRIPTION
    return file.exists() and json.loads(file.read_text(encoding="utf-8")) == description


def write_workload(
    folder: Path,
    description: dict[str, Any],
    texts: Iterable[str],
    vectors: Iterable[NDArray[np.float32]],
    queries: NDArray[np.float32],
    questions: Sequence[str],
) -> Workload:
    """Write a workload into a folder.

    Args:
        folder: Made where it is missing.
        description: `size`, `dim` and whatever else tells workloads apart; must go through JSON unchanged.
        texts: The documents' texts.
        vectors: Their embeddings, in blocks of rows.
        queries: Embeddings to search with.
        questions: Questions to search with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    rows = open_memmap(folder / _VECTORS, mode="w+", dtype=np.float32, shape=(description["size"], description["dim"]))
    start = 0
    for block in vectors:
        rows[start : start + len(block)] = block
        start += len(block)
    rows.flush()
    with (folder / _TEXTS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
    np.save(folder / _QUERIES, queries)
    (folder / _QUESTIONS).write_text(json.dumps(list(questions)), encoding="utf-8")
    (folder / _DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    return Workload(folder)


def document_id(row: int) -> str:
    """Name a document as Haystack does, by 64 hexadecimal digits, so that ids weigh what they weigh in use."""
    return hashlib.sha256(str(row).encode()).hexdigest()


def category_of(row: int) -> str:
    """Put a document in one of 100 categories, at random with regard to its text and its embedding."""
    return f"category-{int(document_id(row)[:8], 16) % CATEGORIES}"


def category_of_query(number: int) -> str:
    """Choose the category that a filtered query asks for."""
    return f"category-{number % CATEGORIES}"


def _document(row: int, text: str, vector: NDArray[np.float32]) -> Document:
    meta = {"category": category_of(row), "row": row, "file": f"folder/file-{row // 20}.txt"}
    return Document(id=document_id(row), content=text, meta=meta, embedding=vector.tolist())
