"""The process that works on a store until it is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import faiss

from benchmarks.faults.contents import DIM
from benchmarks.faults.kills import Kill, arm
from benchmarks.faults.operations import Operation
from rom_haystack.document_stores import SQLiteFAISSDocumentStore, faiss_index, indexed_vectors, keywords

KEYWORD_META_FIELDS = ("mark",)
# With few documents, everything happens that otherwise needs many.
_THRESHOLDS = (
    (faiss_index, "AUTO_TRAINED_FROM", 300),
    (indexed_vectors, "SAVE_AGAIN_FROM", 200),
    (keywords, "FREQUENT_DOCUMENTS", 40),
    (keywords, "DUE_DOCUMENTS", 200),
)


@contextmanager
def low_thresholds() -> Iterator[None]:
    """Have indexes trained, saved and packed for a few hundred documents."""
    with ExitStack() as stack:
        for module, name, value in _THRESHOLDS:
            stack.enter_context(patch.object(module, name, value))
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let FAISS search with one thread here: a machine that also runs the other process is slowed down by more."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def open_store(folder: Path) -> SQLiteFAISSDocumentStore:
    """Make the store object that all who take part use."""
    return SQLiteFAISSDocumentStore(
        folder, DIM, keyword_meta_fields=list(KEYWORD_META_FIELDS), indexed_meta_fields=["group"], return_embedding=True
    )


def work(
    folder: Path, seed: int, operations: Sequence[Operation], kill: Kill, parent: Connection, output: Path
) -> None:
    """Do operations, tell the parent of each that is done, and wait to be killed.

    Args:
        folder: The store's folder.
        seed: Chooses the documents.
        operations: What to do.
        kill: Where to die on the way.
        parent: Gets a message for each finished operation.
        output: File that gets what is printed, by libraries too.
    """
    _redirect(output)
    arm(kill)
    with low_thresholds():
        store = open_store(folder)
        for operation in operations:
            operation.perform(store, seed)
            parent.send_bytes(b"done")
        parent.poll(None)


def _redirect(output: Path) -> None:
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
