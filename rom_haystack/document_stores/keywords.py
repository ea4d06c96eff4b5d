"""Keyword search: SQLite's FTS5 index, BM25 scores, and the scores of frequent terms packed for speed.

BM25 adds up over terms: a document's score is the sum of its scores for the query's terms alone. FTS5 takes more than
a microsecond to score a row, so frequent terms, which make a question take seconds in a large collection, have their
scores packed (`keyword_scores`). What is packed covers the slots below some number and is derived data: rows that came
later or whose text changed are scored by FTS5 when they are searched.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rom_haystack.document_stores.keyword_scores import PackedScores, PackedTerm, best, pack_term, unpack_term
from rom_haystack.document_stores.keyword_terms import Term, Terms, quoted

#: Terms in at least so many documents are packed.
FREQUENT_DOCUMENTS = 2000
#: Packing is due when so many documents, and this share of all, have come or changed since the last time.
DUE_DOCUMENTS = 5000
DUE_SHARE = 0.05
# All is packed anew, and not only what came since, when the collection has grown by this factor: scores depend on the
# number of documents, on their mean length and on how many have the term.
_RENEWAL_GROWTH = 3
# FTS5 gives a term of more than half of the documents next to no weight; its highest score is below this.
_NEGLIGIBLE = 1e-5

_ROW = np.dtype([("slot", np.int64), ("score", np.float64)])
_DOOMED = "slot IN (SELECT slot FROM temp.doomed)"


class _Packing(NamedTuple):
    """The row of `keyword_packing`.

    Attributes:
        cover: Packed scores cover the slots below this one.
        renewed: They were last packed anew when they covered this many.
        number: Raised whenever they are written or dropped.
        changes: Number of the last change of a document's text.
    """

    cover: int
    renewed: int
    number: int
    changes: int


class KeywordIndex:
    """Keyword search over the table `documents`. It holds no connection; every method is given one.

    Args:
        tokenizer: FTS5's tokenizer with its arguments.
        meta_fields: Metadata fields whose text is searched besides the content.

    Raises:
        ValueError: SQLite does not know the tokenizer, or a metadata field can't be read by SQLite.
    """

    def __init__(self, tokenizer: str, meta_fields: Sequence[str]) -> None:
        if unreadable := [field for field in meta_fields if '"' in field]:
            raise ValueError(
                f"keyword_meta_fields holds {unreadable[0]!r}, which keyword search can't read: its name must not hold "
                "a quotation mark. Rename the field."
            )
        self.tokenizer = tokenizer
        self.meta_fields = tuple(meta_fields)
        self._terms = Terms(tokenizer)

    # The index

    def schema(self) -> list[str]:
        """Give the statements that make the index's tables."""
        # A key is compared with the text of the JSON, where other letters than ASCII's are escaped.
        paths = [quoted(f"$.{json.dumps(field)}") for field in self.meta_fields]
        parts = ["coalesce(content, '')", *(f"coalesce(json_extract(meta, {path}), '')" for path in paths)]
        text = " || char(10) || ".join(parts)
        return [
            f"CREATE VIEW keyword_texts AS SELECT slot, {text} AS text FROM documents",
            f"""CREATE VIRTUAL TABLE keywords USING fts5(
                text, content='keyword_texts', content_rowid='slot', tokenize={quoted(self.tokenizer)})""",
            """CREATE TABLE keyword_scores(
                term TEXT, first INTEGER, scale REAL, counts BLOB, slots BLOB, scores BLOB,
                PRIMARY KEY(term, first))""",
            "CREATE TABLE keyword_packing(cover INTEGER, renewed INTEGER, number INTEGER, changes INTEGER)",
            "INSERT INTO keyword_packing VALUES (0, 0, 0, 0)",
            # Documents whose text changed since their scores were packed.
            "CREATE TABLE keyword_changes(slot INTEGER PRIMARY KEY, change INTEGER)",
        ]

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Make the temporary tables that searching and packing need, once on every connection."""
        self._terms.prepare(connection)
        connection.execute("CREATE VIRTUAL TABLE temp.keyword_counts USING fts5vocab(main, keywords, row)")
        connection.execute("CREATE VIRTUAL TABLE temp.keyword_places USING fts5vocab(main, keywords, instance)")

    def add(self, connection: sqlite3.Connection, first_slot: int) -> None:
        """Index the documents from a slot on, which have just been inserted."""
        connection.execute(
            "INSERT INTO keywords(rowid, text) SELECT slot, text FROM keyword_texts WHERE slot >= ?", (first_slot,)
        )

    def remove(self, connection: sqlite3.Connection) -> None:
        """Take the documents in `temp.doomed` out of the index, before they are deleted or updated."""
        connection.execute(
            "INSERT INTO keywords(keywords, rowid, text)"
            f" SELECT 'delete', slot, text FROM keyword_texts WHERE {_DOOMED}"
        )

    def restore(self, connection: sqlite3.Connection) -> None:
        """Index the documents in `temp.doomed` again, after an update of their metadata."""
        connection.execute(f"INSERT INTO keywords(rowid, text) SELECT slot, text FROM keyword_texts WHERE {_DOOMED}")
        if self.meta_fields:
            connection.execute("UPDATE keyword_packing SET changes = changes + 1")
            connection.execute(
                "INSERT OR REPLACE INTO keyword_changes SELECT slot, changes FROM temp.doomed, keyword_packing"
            )

    def clear(self, connection: sqlite3.Connection) -> None:
        """Empty the index."""
        connection.execute("INSERT INTO keywords(keywords) VALUES ('delete-all')")
        _drop_packed(connection)

    def rebuild(self, connection: sqlite3.Connection) -> None:
        """Index all documents anew; packed scores are dropped."""
        connection.execute("INSERT INTO keywords(keywords) VALUES ('rebuild')")
        _drop_packed(connection)

    def merge(self, connection: sqlite3.Connection) -> None:
        """Merge the index's parts into one."""
        connection.execute("INSERT INTO keywords(keywords) VALUES ('optimize')")

    def check(self, connection: sqlite3.Connection) -> None:
        """Compare the index with the documents; needs a write transaction.

        Raises:
            sqlite3.DatabaseError: They disagree.
        """
        connection.execute("INSERT INTO keywords(keywords, rank) VALUES ('integrity-check', 1)")

    # Packing

    def due(self, connection: sqlite3.Connection, next_slot: int) -> bool:
        """Tell whether so many documents came or changed since the last packing that it is worth its time."""
        behind = next_slot - _packing(connection).cover + _changed(connection).size
        return behind >= max(DUE_DOCUMENTS, DUE_SHARE * next_slot)

    def read_packable(self, connection: sqlite3.Connection, next_slot: int) -> PackedScores:
        """Score the frequent terms: all of them, or only in the documents that came since the last time.

        This takes about a minute per million documents, or seconds for a few that came since; it needs a read
        transaction only.

        Args:
            connection: A connection in a transaction.
            next_slot: The first slot that was never used.
        """
        state = _packing(connection)
        complete = next_slot > state.renewed * _RENEWAL_GROWTH or _changed(connection).size > 0
        packed = PackedScores(cover=next_slot, complete=complete, basis=state.number, changes=state.changes)
        if complete:
            self._pack(connection, _frequent_terms(connection), 0, packed)
        elif next_slot > state.cover:
            self._pack(connection, _packed_terms(connection), state.cover, packed)
        return packed

    def _pack(self, connection: sqlite3.Connection, terms: Iterable[str], first: int, packed: PackedScores) -> None:
        for name in terms:
            term = self._term(connection, name)
            rows = _scored(connection, term, first) if term else np.empty(0, _ROW)
            if rows.size:
                packed.append(pack_term(name, first, rows["slot"], rows["score"]))

    def write_packed(self, connection: sqlite3.Connection, packed: PackedScores) -> None:
        """Keep what `read_packable` gave, unless the packed scores have been written or dropped since it began."""
        state = _packing(connection)
        if state.number == packed.basis:
            if packed.complete:
                connection.execute("DELETE FROM keyword_scores")
                connection.execute("DELETE FROM keyword_changes WHERE change <= ?", (packed.changes,))
            connection.executemany("INSERT INTO keyword_scores VALUES (?, ?, ?, ?, ?, ?)", packed)
            connection.execute(
                "UPDATE keyword_packing SET cover = ?, renewed = ?, number = number + 1",
                (packed.cover, packed.cover if packed.complete else state.renewed),
            )
        packed.close()

    def _term(self, connection: sqlite3.Connection, name: str) -> Term | None:
        """Find a word that stands for a term, in the first document that has one."""
        place = connection.execute(
            """SELECT CAST(text AS BLOB), offset FROM temp.keyword_places JOIN keyword_texts ON slot = doc
            WHERE term = ? LIMIT 1""",
            (name,),
        ).fetchone()
        return self._terms.at(connection, *place) if place else None

    # Search

    def search(
        self,
        connection: sqlite3.Connection,
        query: str,
        top_k: int,
        next_slot: int,
        allowed: NDArray[np.int64] | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the documents that match a query best, by BM25 over those that have any of its terms.

        Terms of more than half of a large collection weigh next to nothing: they count only where no document matches
        any other term.

        Args:
            connection: A connection in a transaction.
            query: Text; nothing in it is query syntax. Of a very long one, `MAX_QUERY_TERMS` terms are searched.
            top_k: Most documents.
            next_slot: The first slot that was never used.
            allowed: Slots that a filter lets through, rising; None lets all through.

        Returns:
            Slots and scores (positive, higher is better), best first and the lower slot first among equals.
        """
        terms = self._terms.of_query(connection, query) if top_k > 0 and next_slot > 0 else []
        packed = _scales(connection, terms)
        common = [term for term in terms if _is_common(connection, term, packed.get(term.term), next_slot)]
        slots, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for group in ([term for term in terms if term not in common], common):
            if group and not slots.size:
                found = _scores(connection, group, packed, next_slot)
                slots, scores = _best_present(connection, found, top_k, allowed)
        return slots, scores


def _scores(
    connection: sqlite3.Connection, terms: Sequence[Term], packed: Iterable[str], next_slot: int
) -> NDArray[np.float32]:
    """Add up the scores of terms; one score per slot, 0 where none of them occurs."""
    scores = np.zeros(next_slot, np.float32)
    frequent = [term for term in terms if term.term in packed]
    for term in frequent:
        for row in connection.execute("SELECT * FROM keyword_scores WHERE term = ?", (term.term,)):
            slots, values = unpack_term(PackedTerm(*row))
            np.add.at(scores, slots, values)
    changed = _changed(connection) if frequent else np.empty(0, np.int64)
    scores[changed] = 0
    cover = _packing(connection).cover
    for term in terms:
        if term not in frequent:
            rows = _scored(connection, term, 0)
        elif cover < next_slot or changed.size:
            rows = _scored(connection, term, cover, and_changed=changed.size > 0)
        else:
            continue
        np.add.at(scores, rows["slot"], rows["score"].astype(np.float32))
    return scores


def _scored(connection: sqlite3.Connection, term: Term, first: int, *, and_changed: bool = False) -> NDArray[np.void]:
    """Let FTS5 score the documents that have a term: those from a slot on, and those whose text changed."""
    # The plus sign keeps SQLite from asking FTS5 for each changed slot by itself, which would count the term each time.
    which = "(rowid >= ? OR +rowid IN (SELECT slot FROM keyword_changes))" if and_changed else "rowid >= ?"
    return np.fromiter(
        connection.execute(
            f"SELECT rowid, -bm25(keywords) FROM keywords WHERE keywords MATCH ? AND {which} ORDER BY rowid",
            (term.match(), first),
        ),
        _ROW,
    )


def _best_present(
    connection: sqlite3.Connection, scores: NDArray[np.float32], top_k: int, allowed: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the best slots that are allowed and hold a document; those of deleted ones may have packed scores."""
    if allowed is not None:
        scores = scores[allowed]
    wanted = top_k
    while True:
        positions = best(scores, wanted)
        slots = positions if allowed is None else allowed[positions]
        here = np.isin(slots, _present(connection, slots))
        if len(positions) < wanted or np.count_nonzero(here) >= top_k:
            return slots[here][:top_k], scores[positions[here][:top_k]]
        wanted *= 4


def _present(connection: sqlite3.Connection, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    found = connection.execute(
        "SELECT slot FROM documents WHERE slot IN (SELECT value FROM json_each(?))", (json.dumps(slots.tolist()),)
    )
    return np.array([slot for (slot,) in found], np.int64)


def _scales(connection: sqlite3.Connection, terms: Sequence[Term]) -> dict[str, float]:
    """Give the highest packed score of those terms that are packed."""
    names = json.dumps([term.term for term in terms])
    return dict(
        connection.execute(
            "SELECT term, max(scale) FROM keyword_scores WHERE term IN (SELECT value FROM json_each(?)) GROUP BY term",
            (names,),
        ).fetchall()
    )


def _is_common(connection: sqlite3.Connection, term: Term, scale: float | None, next_slot: int) -> bool:
    """Tell whether a term is frequent and in more than half of the documents."""
    if scale is not None:
        return scale < _NEGLIGIBLE
    if next_slot < 2 * FREQUENT_DOCUMENTS:
        return False
    row = connection.execute("SELECT doc FROM temp.keyword_counts WHERE term = ?", (term.term,)).fetchone()
    return row is not None and row[0] > next_slot / 2


def _packing(connection: sqlite3.Connection) -> _Packing:
    return _Packing(*connection.execute("SELECT cover, renewed, number, changes FROM keyword_packing").fetchone())


def _changed(connection: sqlite3.Connection) -> NDArray[np.int64]:
    return np.array([slot for (slot,) in connection.execute("SELECT slot FROM keyword_changes")], np.int64)


def _frequent_terms(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(
        "SELECT CAST(term AS BLOB) FROM temp.keyword_counts WHERE doc >= ?", (FREQUENT_DOCUMENTS,)
    )
    # A term that is no valid unicode is in no query, and its replacement in no document.
    return [term.decode("utf-8", "replace") for (term,) in found]


def _packed_terms(connection: sqlite3.Connection) -> list[str]:
    return [term for (term,) in connection.execute("SELECT DISTINCT term FROM keyword_scores ORDER BY term")]


def _drop_packed(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM keyword_scores")
    connection.execute("DELETE FROM keyword_changes")
    connection.execute("UPDATE keyword_packing SET cover = 0, renewed = 0, number = number + 1")
