"""How FTS5 breaks text into terms, asked of FTS5 itself, so that a query is text and never query syntax."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

#: Distinct terms of a query that are searched; what a longer query says further on is passed over.
MAX_QUERY_TERMS = 256

# Tokenizer names that stem what another tokenizer finds: without them a term's words come out as they are written.
_STEMMERS = re.compile(r"""^\s*(?:(['"]?)porter\1(?:\s+|$))+""", re.IGNORECASE)
_CACHED_WORDS = 50_000


class Term(NamedTuple):
    """A term of the index and a word that stands for it.

    A stem can't be searched for as if it were a word: stemmed again, "diseas" becomes "disea".

    Attributes:
        term: The term, as the index holds it.
        word: A word whose term it is.
    """

    term: str
    word: str

    def match(self) -> str:
        """Give the FTS5 query that finds the term."""
        return '"' + self.word.replace('"', '""') + '"'


class Terms:
    """Breaks text into terms, as the index does.

    Args:
        tokenizer: FTS5's tokenizer with its arguments.

    Raises:
        ValueError: SQLite does not know the tokenizer.
    """

    def __init__(self, tokenizer: str) -> None:
        self._tables = {"keyword_words": _STEMMERS.sub("", tokenizer) or "unicode61", "keyword_stems": tokenizer}
        self._known: dict[str, str] = {}
        try:
            with closing(sqlite3.connect(":memory:")) as connection:
                self.prepare(connection)
        except sqlite3.Error as error:
            raise ValueError(
                f"SQLite {sqlite3.sqlite_version} can't use the tokenizer {tokenizer!r}: {error}. Name one of FTS5's: "
                "'porter unicode61 remove_diacritics 2' (English), 'unicode61' (other languages) or 'trigram' "
                "(languages without spaces between words)."
            ) from error

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Make the temporary tables that break text into words and words into terms."""
        for table, tokenizer in self._tables.items():
            connection.execute(
                f"CREATE VIRTUAL TABLE temp.{table} USING fts5(text, content='', tokenize={quoted(tokenizer)})"
            )
            connection.execute(f"CREATE VIRTUAL TABLE temp.{table}_found USING fts5vocab(temp, {table}, instance)")

    def of_query(self, connection: sqlite3.Connection, query: str) -> list[Term]:
        """Give the distinct terms of a query, in order, at most `MAX_QUERY_TERMS`."""
        text = query.replace("\0", " ").encode("utf-8", "replace").decode()
        found = _tokenized(
            connection,
            "keyword_words",
            [text],
            "SELECT term FROM temp.keyword_words_found GROUP BY term ORDER BY min(offset) LIMIT ?",
            (MAX_QUERY_TERMS,),
        )
        words = [word for (word,) in found]
        terms = self._terms_of(connection, words)
        first_words = {terms[word]: word for word in reversed(words)}
        return [Term(term, first_words[term]) for term in dict.fromkeys(terms[word] for word in words)]

    def at(self, connection: sqlite3.Connection, text: bytes, place: int) -> Term:
        """Give the term at a place of a text (UTF-8), counted in terms from 0, and the word that stands there."""
        ((word,),) = _tokenized(
            connection, "keyword_words", [text], "SELECT term FROM temp.keyword_words_found WHERE offset = ?", (place,)
        )
        return Term(self._terms_of(connection, [word])[word], word)

    def _terms_of(self, connection: sqlite3.Connection, words: Sequence[str]) -> dict[str, str]:
        known = self._known
        if unknown := [word for word in words if word not in known]:
            found = _tokenized(connection, "keyword_stems", unknown, "SELECT doc, term FROM temp.keyword_stems_found")
            # Replaced, never changed: other threads may be reading it.
            known = (known if len(known) < _CACHED_WORDS else {}) | {unknown[row]: term for row, term in found}
            self._known = known
        return known


def quoted(text: str) -> str:
    """Write a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _tokenized(
    connection: sqlite3.Connection,
    table: str,
    texts: Sequence[str | bytes],
    query: str,
    parameters: tuple[int, ...] = (),
) -> list[tuple[Any, ...]]:
    """Put texts into a table of `Terms`, each in the row of its number, ask it something, and empty it."""
    connection.execute(f"INSERT INTO {table}({table}) VALUES ('delete-all')")
    connection.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", enumerate(texts))
    return connection.execute(query, parameters).fetchall()
