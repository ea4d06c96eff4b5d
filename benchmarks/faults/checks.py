"""What must hold of a store after the process that worked on it was killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from haystack import Document

from benchmarks.faults.contents import DIM, WORDS, Contents, Version, document, name_of, number_of, unique_word
from benchmarks.faults.worker import KEYWORD_META_FIELDS
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.database import read_state
from rom_haystack.document_stores.keywords import KeywordIndex

# Half a unit in the last place of fp16, with a little room for the multiplication with the norm.
_FP16 = 2.0**-11 * 1.1
# The same for the smallest numbers of fp16, in vectors that are some 34 long.
_SMALLEST = 2e-6
_ENOUGH = 100_000


class ViolationError(Exception):
    """A store does not hold what it must, or says what it must not."""


def contents_of(store: SQLiteFAISSDocumentStore, candidates: Sequence[Contents], seed: int) -> Contents:
    """Find out which of the contents that are possible a store has, and that it has them exactly.

    Args:
        store: The store.
        candidates: Its contents without and with the operation that was cut off.
        seed: Chooses the documents.

    Raises:
        ViolationError: It has neither, or a document is not what was written.
    """
    documents = store.filter_documents()
    there = {number_of(found.id): Version(found.meta["revision"], found.meta.get("mark")) for found in documents}
    if len(there) != len(documents):
        raise ViolationError(f"{len(documents)} documents have {len(there)} different ids")
    if there not in candidates:
        raise ViolationError(" nor ".join(_difference(there, candidate) for candidate in candidates))
    for found in documents:
        number = number_of(found.id)
        _check_document(found, document(seed, number, there[number]))
    if store.count_documents() != len(there):
        raise ViolationError(f"count_documents() is {store.count_documents()}; there are {len(there)} documents")
    return there


def check_search(
    store: SQLiteFAISSDocumentStore, contents: Contents, seed: int, rng: np.random.Generator, samples: int
) -> int:
    """Search a store for some of its documents, and for all of them.

    Returns:
        Number of documents that were searched for one by one.

    Raises:
        ViolationError: A document is not found, or is found that is not there.
    """
    numbers = rng.permutation(sorted(contents))[:samples].tolist()
    for number in numbers:
        _check_found(store, document(seed, number, contents[number]), contents)
    documents = [document(seed, number, version) for number, version in contents.items()]
    embedded = {found.id for found in documents if found.embedding is not None}
    everywhere = store.embedding_retrieval(rng.standard_normal(DIM).tolist(), top_k=_ENOUGH)
    _check_ids("an embedding search for everything", everywhere, embedded)
    word = str(rng.choice(WORDS))
    having = {found.id for found in documents if found.content and word in found.content.split()}
    _check_ids(f"bm25 search for {word}", store.bm25_retrieval(word, top_k=_ENOUGH), having)
    for mark in {version.mark for version in contents.values()} - {None}:
        having = {name_of(number) for number, version in contents.items() if version.mark == mark}
        _check_ids(f"bm25 search for {mark}", store.bm25_retrieval(str(mark), top_k=_ENOUGH), having)
    return len(numbers)


def check_database(path: Path) -> set[str]:
    """Check a store's database by itself, without the code of the store.

    Returns:
        Names of the files that the store needs besides its database.

    Raises:
        ViolationError: SQLite or FTS5 find it damaged, or its counters are wrong.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchall()
        if verdict != [("ok",)]:
            raise ViolationError(f"integrity_check says {verdict[:3]}")
        tokenizer = "porter unicode61 remove_diacritics 2"
        try:
            KeywordIndex(tokenizer, KEYWORD_META_FIELDS).check(connection)
        except sqlite3.DatabaseError as error:
            raise ViolationError(f"the keyword index disagrees with the documents: {error}") from error
        state = read_state(connection)
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM vacant), "
            "(SELECT coalesce(max(sequence), 0) FROM vacant), (SELECT coalesce(max(slot), -1) FROM documents)"
        ).fetchone()
        expected = (state.documents, state.vacancies, state.vacancies)
        if counted[:3] != expected or counted[3] >= state.next_slot:
            raise ViolationError(f"the counters {state} do not fit the tables' {counted}")
        indexes = {row[0] for row in connection.execute("SELECT file FROM vector_indexes")}
    return {f"vectors-{state.generation}.bin", *indexes}


def strays(folder: Path, needed: set[str]) -> list[str]:
    """List the files in a store's folder that nothing needs."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in needed and not path.name.startswith("documents.sqlite")
    )


def _check_found(store: SQLiteFAISSDocumentStore, wanted: Document, contents: Contents) -> None:
    """Search for a document by its embedding, alone and among its group, and by the word that only it has."""
    group = {"field": "meta.group", "operator": "==", "value": wanted.meta["group"]}
    found = {}
    if wanted.embedding is not None:
        found["embedding search"] = store.embedding_retrieval(wanted.embedding, top_k=5)
        found["filtered embedding search"] = store.embedding_retrieval(wanted.embedding, group, top_k=5)
    if wanted.content is not None:
        word = unique_word(number_of(wanted.id), wanted.meta["revision"])
        found["bm25 search"] = store.bm25_retrieval(word, top_k=5)
        if len(found["bm25 search"]) > 1:
            raise ViolationError(f"bm25 search for {word} finds {[other.id for other in found['bm25 search']]}")
    for how, documents in found.items():
        absent = [other.id for other in documents if number_of(other.id) not in contents]
        if absent:
            raise ViolationError(f"{how} for {wanted.id} finds {absent}, which are not there")
        if not documents or documents[0].id != wanted.id:
            raise ViolationError(f"{how} for {wanted.id} finds {[other.id for other in documents]}")


def _check_ids(how: str, documents: Sequence[Document], expected: set[str]) -> None:
    found = [other.id for other in documents]
    if len(set(found)) != len(found):
        raise ViolationError(f"{how} finds a document twice")
    if set(found) != expected:
        missing, surplus = sorted(expected - set(found)), sorted(set(found) - expected)
        raise ViolationError(
            f"{how} misses {len(missing)} documents {missing[:5]} and finds {len(surplus)} too many {surplus[:5]}"
        )


def _check_document(found: Document, expected: Document) -> None:
    for field in ("content", "meta", "blob", "sparse_embedding"):
        if getattr(found, field) != getattr(expected, field):
            raise ViolationError(
                f"{field} of {found.id} is {getattr(found, field)!r} where {getattr(expected, field)!r} was written"
            )
    if (found.embedding is None) != (expected.embedding is None):
        raise ViolationError(f"{found.id} {'lost its' if found.embedding is None else 'has an'} embedding")
    if found.embedding is not None and expected.embedding is not None:
        limit = _FP16 * np.abs(expected.embedding) + _SMALLEST
        if not (np.abs(np.subtract(found.embedding, expected.embedding)) <= limit).all():
            raise ViolationError(f"the embedding of {found.id} is not the one that was written")


def _difference(there: Contents, expected: Contents) -> str:
    """Say in what contents differ."""
    lost = sorted(expected.keys() - there.keys())
    surplus = sorted(there.keys() - expected.keys())
    other = sorted(number for number in there.keys() & expected.keys() if there[number] != expected[number])
    parts = [
        f"{len(numbers)} documents {what} ({', '.join(map(str, numbers[:5]))}…)"
        for what, numbers in (("lost", lost), ("that must not be there", surplus), ("of another version", other))
        if numbers
    ]
    return "; ".join(parts)
