"""Keyword search against FTS5's own scores: packed, unpacked, and both with a tail, deletions and updates."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from rom_haystack.document_stores import keywords as module
from rom_haystack.document_stores.keyword_scores import best, pack_term, unpack_term
from rom_haystack.document_stores.keyword_terms import MAX_QUERY_TERMS
from rom_haystack.document_stores.keywords import KeywordIndex

TOKENIZER = "porter unicode61 remove_diacritics 2"
# Their stems, stemmed again, would be other terms: "diseas" -> "disea".
WORDS = ["diseases", "houses", "purposes", "running", "Beyoncé", "state", "cities", "energy", "of", "x1"]
STEMS = {
    "diseases": "diseas",
    "houses": "hous",
    "purposes": "purpos",
    "running": "run",
    "Beyoncé": "beyonc",
    "cities": "citi",
    "energy": "energi",
}
RARE = [f"rare{i}" for i in range(40)]
ODD = [
    "",
    "   ",
    "?!.,;:()",
    '"',
    '"unbalanced',
    "a AND",
    "NOT houses OR",
    "NEAR(houses state, 2)",
    "text: houses",
    "houses*",
    "^houses + state",
    "{text} : houses",
    "nul\0houses",
    "\0",
    "🦄 houses 👩‍🚀",
    "東京タワー",
    "\ud800houses\udfff",
    "'; DROP TABLE documents; --",
    "houses " * 20_000,
    " ".join(f"w{i}" for i in range(3 * MAX_QUERY_TERMS)),
    "x" * 100_000,
]


@pytest.fixture(autouse=True)
def _small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FREQUENT_DOCUMENTS", 30)


class Corpus:
    """A keyword index with documents of random words, and what FTS5 says about them."""

    def __init__(self, *, tokenizer: str = TOKENIZER, meta_fields: Sequence[str] = ()) -> None:
        self.random = random.Random(13)
        self.index = KeywordIndex(tokenizer, meta_fields)
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("CREATE TEMP TABLE doomed(slot INTEGER PRIMARY KEY)")
        self.connection.execute(
            """CREATE TABLE documents(slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT,
            meta TEXT NOT NULL, norm REAL, blob BLOB, extra TEXT)"""
        )
        for statement in self.index.schema():
            self.connection.execute(statement)
        self.index.prepare(self.connection)
        self.next_slot = 0

    def write(self, texts: Sequence[str | bytes | None], meta: dict[str, object] | None = None) -> None:
        first = self.next_slot
        self.connection.executemany(
            "INSERT INTO documents(slot, id, content, meta) VALUES (?, ?, ?, ?)",
            [(first + i, f"d{first + i}", text, json.dumps(meta or {})) for i, text in enumerate(texts)],
        )
        self.index.add(self.connection, first)
        self.next_slot += len(texts)

    def write_random(self, count: int) -> None:
        weights = range(len(WORDS), 0, -1)
        self.write(
            [
                " ".join([*self.random.choices(WORDS, weights, k=self.random.randint(1, 12)), self.random.choice(RARE)])
                for _ in range(count)
            ]
        )

    def doom(self, slots: Sequence[int]) -> None:
        self.connection.execute("DELETE FROM temp.doomed")
        self.connection.executemany("INSERT INTO temp.doomed VALUES (?)", [(slot,) for slot in slots])

    def delete(self, slots: Sequence[int]) -> None:
        self.doom(slots)
        self.index.remove(self.connection)
        self.connection.execute("DELETE FROM documents WHERE slot IN (SELECT slot FROM temp.doomed)")

    def update(self, slots: Sequence[int], meta: dict[str, object]) -> None:
        self.doom(slots)
        self.index.remove(self.connection)
        self.connection.execute(
            "UPDATE documents SET meta = ? WHERE slot IN (SELECT slot FROM temp.doomed)", (json.dumps(meta),)
        )
        self.index.restore(self.connection)

    def pack(self) -> None:
        self.index.write_packed(self.connection, self.index.read_packable(self.connection, self.next_slot))

    def packed_terms(self) -> list[str]:
        return [term for (term,) in self.connection.execute("SELECT DISTINCT term FROM keyword_scores ORDER BY 1")]

    def search(self, query: str, top_k: int = 10, allowed: Sequence[int] | None = None) -> list[tuple[int, float]]:
        slots, scores = self.index.search(
            self.connection, query, top_k, self.next_slot, None if allowed is None else np.array(allowed, np.int64)
        )
        assert slots.dtype == np.int64
        assert scores.dtype == np.float32
        return list(zip(slots.tolist(), scores.tolist(), strict=True))

    def fts5(self, query: str) -> dict[int, float]:
        match = " OR ".join(f'"{word}"' for word in query.split())
        return dict(
            self.connection.execute(
                "SELECT rowid, -bm25(keywords) FROM keywords WHERE keywords MATCH ?", (match,)
            ).fetchall()
        )


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    corpus = Corpus()
    yield corpus
    corpus.connection.close()


QUERIES = [
    "houses",
    "diseases purposes energy",
    "rare3 Beyoncé",
    "rare1 rare2 rare3",
    "state running x1 rare7 absent",
    " ".join(WORDS[1:]),
]


def assert_agrees(found: list[tuple[int, float]], expected: dict[int, float], top_k: int, tolerance: float) -> None:
    """Check scores, that nothing better was missed, and the order with ties by slot."""
    assert len(found) == min(top_k, len(expected))
    for slot, score in found:
        assert score == pytest.approx(expected[slot], rel=tolerance)
    ranked = sorted(expected.values(), reverse=True)
    for (_, score), wanted in zip(found, ranked, strict=False):
        assert score == pytest.approx(wanted, rel=tolerance)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("top_k", [1, 10, 5000])
def test_unpacked_search_gives_fts5s_ranks_and_scores(corpus: Corpus, query: str, top_k: int) -> None:
    corpus.write_random(1500)
    assert_agrees(corpus.search(query, top_k), without_common(corpus, query), top_k, 1e-5)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("top_k", [1, 10, 5000])
def test_packed_search_gives_the_same_within_fp16(corpus: Corpus, query: str, top_k: int) -> None:
    corpus.write_random(1500)
    corpus.pack()
    assert {STEMS.get(word, word) for word in WORDS} <= set(corpus.packed_terms())
    assert_agrees(corpus.search(query, top_k), without_common(corpus, query), top_k, 1e-3)


def without_common(corpus: Corpus, query: str) -> dict[int, float]:
    """FTS5's scores for the query's words in at most half of the documents."""
    half = corpus.next_slot / 2
    return corpus.fts5(" ".join(word for word in query.split() if len(corpus.fts5(word)) <= half) or query)


def test_packed_scores_are_used(corpus: Corpus) -> None:
    corpus.write_random(300)
    corpus.pack()
    corpus.connection.execute("UPDATE keyword_scores SET scale = scale * 2")
    expected = corpus.fts5("energy")
    found = corpus.search("energy")
    assert found
    assert all(score == pytest.approx(2 * expected[slot], rel=1e-3) for slot, score in found)


@pytest.mark.parametrize("query", QUERIES)
def test_packed_scores_with_tail_deletions_and_updates(query: str) -> None:
    corpus = Corpus(meta_fields=["title"])
    corpus.write_random(1000)
    corpus.pack()
    words = [word for word in query.split() if len(corpus.fts5(word)) <= 500] or query.split()
    before = {word: corpus.fts5(word) for word in words}
    corpus.write_random(200)
    corpus.delete([*range(0, 400, 3), 1100])
    corpus.update([1, 500, 1150], {"title": "diseases energy energy houses"})
    packed = set(corpus.packed_terms())
    expected: dict[int, float] = {}
    for word in words:
        for slot, score in corpus.fts5(word).items():
            current = slot >= 1000 or slot in (1, 500) or STEMS.get(word, word) not in packed
            expected[slot] = expected.get(slot, 0) + (score if current else before[word][slot])
    assert_agrees(corpus.search(query, 2000), expected, 2000, 1e-3)
    assert_agrees(corpus.search(query, 10), expected, 10, 1e-3)
    corpus.index.check(corpus.connection)


def test_packing_adds_what_came_since_and_starts_anew_when_it_has_grown(corpus: Corpus) -> None:
    def pieces() -> list[int]:
        return [first for (first,) in corpus.connection.execute("SELECT DISTINCT first FROM keyword_scores ORDER BY 1")]

    corpus.write_random(1000)
    corpus.pack()
    corpus.write_random(300)
    corpus.pack()
    assert pieces() == [0, 1000]
    assert {slot for slot, _ in corpus.search("energy", 2000)} == corpus.fts5("energy").keys()
    corpus.pack()
    assert pieces() == [0, 1000]
    corpus.write_random(2000)
    corpus.pack()
    assert pieces() == [0]
    assert_agrees(corpus.search("energy", 2000), corpus.fts5("energy"), 4000, 1e-3)


def test_packing_after_updates_starts_anew() -> None:
    corpus = Corpus(meta_fields=["title"])
    corpus.write_random(300)
    corpus.pack()
    corpus.update([5], {"title": "energy energy energy"})
    corpus.pack()
    assert corpus.connection.execute("SELECT count(*) FROM keyword_changes").fetchone() == (0,)
    assert_agrees(corpus.search("energy", 400), corpus.fts5("energy"), 400, 1e-3)


def test_an_update_while_packing_is_not_lost() -> None:
    corpus = Corpus(meta_fields=["title"])
    corpus.write_random(300)
    packed = corpus.index.read_packable(corpus.connection, corpus.next_slot)
    corpus.update([5, 6], {"title": "energy energy energy energy"})
    corpus.delete([7])
    corpus.write(["houses energy"])
    corpus.index.write_packed(corpus.connection, packed)
    found, expected = dict(corpus.search("energy", 400)), corpus.fts5("energy")
    assert found.keys() == expected.keys()
    for slot in (5, 6, 300):
        assert found[slot] == pytest.approx(expected[slot], rel=1e-3)


def test_what_was_read_before_a_rebuild_is_thrown_away(corpus: Corpus) -> None:
    corpus.write_random(300)
    packed = corpus.index.read_packable(corpus.connection, corpus.next_slot)
    corpus.index.rebuild(corpus.connection)
    corpus.index.write_packed(corpus.connection, packed)
    assert corpus.packed_terms() == []
    assert_agrees(corpus.search("energy", 400), corpus.fts5("energy"), 400, 1e-5)


def test_packing_is_due_as_the_collection_grows(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DUE_DOCUMENTS", 50)
    corpus.write_random(49)
    assert not corpus.index.due(corpus.connection, corpus.next_slot)
    corpus.write_random(1)
    assert corpus.index.due(corpus.connection, corpus.next_slot)
    corpus.pack()
    assert not corpus.index.due(corpus.connection, corpus.next_slot)
    corpus.write_random(49)
    assert not corpus.index.due(corpus.connection, corpus.next_slot)
    corpus.write_random(1)
    assert corpus.index.due(corpus.connection, corpus.next_slot)


def test_deleted_documents_make_room_for_the_next_best(corpus: Corpus) -> None:
    corpus.write_random(1000)
    corpus.pack()
    before = corpus.search("energy", 500)
    assert len(before) > 200
    corpus.delete([slot for slot, _ in before[:150]])
    assert corpus.search("energy", 5) == before[150:155]
    corpus.delete([slot for slot, _ in before])
    assert corpus.search("energy", 5) == []


@pytest.mark.parametrize("pack", [False, True])
def test_only_allowed_documents_are_found(corpus: Corpus, pack: bool) -> None:
    corpus.write_random(1000)
    if pack:
        corpus.pack()
    allowed = list(range(3, 1000, 50))
    everywhere = dict(corpus.search("energy rare3", 1000))
    expected = {slot: score for slot, score in everywhere.items() if slot in allowed}
    assert expected
    assert dict(corpus.search("energy rare3", 1000, allowed)) == expected
    assert corpus.search("energy rare3", 10, []) == []


@pytest.mark.parametrize("pack", [False, True])
def test_a_word_of_most_documents_counts_only_where_nothing_else_matches(corpus: Corpus, pack: bool) -> None:
    corpus.write(["the house"] * 40 + ["the the house"] * 40 + ["a barn", "a castle"])
    if pack:
        corpus.pack()
    assert [slot for slot, _ in corpus.search("the barn")] == [80]
    assert [slot for slot, _ in corpus.search("the barn", 10, range(80))] == list(range(40, 50))
    assert_agrees(corpus.search("the", 100), corpus.fts5("the"), 100, 1e-3)


def test_a_word_of_most_documents_of_a_small_collection_counts_as_in_fts5(corpus: Corpus) -> None:
    corpus.write(["the house", "the barn", "the castle"])
    assert_agrees(corpus.search("the barn"), corpus.fts5("the barn"), 10, 1e-5)
    assert len(corpus.search("the barn")) == 3


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("query", ODD, ids=range(len(ODD)))
def test_odd_queries_are_text(corpus: Corpus, query: str, pack: bool) -> None:
    corpus.write(["houses and more"] * 40 + ["states"] * 60)
    if pack:
        corpus.pack()
    found = corpus.search(query, 100)
    assert {slot for slot, _ in found} == (set(range(40)) if "houses" in query or " AND" in query else set())


def test_operators_are_words(corpus: Corpus) -> None:
    corpus.write(["not here", "or there", "near", "nothing"])
    assert {slot for slot, _ in corpus.search("NOT")} == {0}
    assert {slot for slot, _ in corpus.search("NOT OR NEAR")} == {0, 1, 2}


def test_case_diacritics_stems_and_repetition_are_one_term(corpus: Corpus) -> None:
    corpus.write(["The diseases of Beyoncé", "nothing of it", "other"])
    assert [slot for slot, _ in corpus.search("DISEASE")] == [0]
    assert [slot for slot, _ in corpus.search("beyonce")] == [0]
    assert corpus.search("disease") == corpus.search("disease Diseases diseased")


def test_a_very_long_query_is_searched_by_its_first_terms(corpus: Corpus) -> None:
    corpus.write(["needle", "pin"])
    filler = [f"w{i}" for i in range(MAX_QUERY_TERMS - 1)]
    assert [slot for slot, _ in corpus.search(" ".join([*filler, "needle", "pin"]))] == [0]


@pytest.mark.parametrize("top_k", [0, -1])
def test_nothing_is_found_where_nothing_is_asked_or_there(corpus: Corpus, top_k: int) -> None:
    assert corpus.search("houses") == []
    corpus.write(["houses"])
    assert corpus.search("houses", top_k) == []


def test_metadata_fields_are_searched_whatever_their_names() -> None:
    fields = ["title", "a.b", "größe", "it's", "back\\slash", "tags"]
    corpus = Corpus(meta_fields=fields)
    values = ["alpha", "beta", "gämma", "delta", 2020, ["red", "green"]]
    for field, value in zip(fields, values, strict=True):
        corpus.write(["text"], {field: value, "other": "hidden"})
    for slot, word in enumerate(["alpha", "beta", "gamma", "delta", "2020", "green"]):
        assert [found for found, _ in corpus.search(word)] == [slot]
    assert corpus.search("hidden") == []


def test_documents_of_every_kind_can_be_indexed_packed_and_deleted() -> None:
    corpus = Corpus(meta_fields=["title"])
    texts = [None, "", "nul\0energy", "lone \ud800 energy".encode("utf-8", "surrogatepass"), "energy 🦄", "東京"]
    corpus.write(texts * 20, {"title": None})
    corpus.write(texts * 20, {"title": "lone \udfff surrogate"})
    corpus.index.check(corpus.connection)
    corpus.pack()
    assert "energi" in corpus.packed_terms()
    assert {slot % 6 for slot, _ in corpus.search("energy", 300)} == {2, 3, 4}
    corpus.delete(range(0, 240, 2))
    corpus.index.check(corpus.connection)
    assert {slot % 6 for slot, _ in corpus.search("energy", 300)} == {3}


def test_clear_empties_the_index(corpus: Corpus) -> None:
    corpus.write_random(300)
    corpus.pack()
    corpus.connection.execute("DELETE FROM documents")
    corpus.index.clear(corpus.connection)
    corpus.next_slot = 0
    assert corpus.packed_terms() == []
    corpus.write(["energy"])
    assert [slot for slot, _ in corpus.search("energy")] == [0]
    corpus.index.check(corpus.connection)


def test_rebuild_and_merge_keep_what_is_found(corpus: Corpus) -> None:
    corpus.write_random(300)
    expected = corpus.search("energy houses rare3")
    corpus.index.merge(corpus.connection)
    assert corpus.search("energy houses rare3") == expected
    corpus.connection.execute("INSERT INTO keywords(keywords) VALUES ('delete-all')")
    assert corpus.search("energy houses rare3") == []
    corpus.index.rebuild(corpus.connection)
    assert corpus.search("energy houses rare3") == expected


def test_check_finds_an_index_that_is_not_of_the_documents(corpus: Corpus) -> None:
    corpus.write_random(10)
    corpus.index.check(corpus.connection)
    corpus.connection.execute("UPDATE documents SET content = 'something else' WHERE slot = 3")
    with pytest.raises(sqlite3.DatabaseError):
        corpus.index.check(corpus.connection)


@pytest.mark.parametrize(
    ("tokenizer", "text", "query"),
    [
        ("unicode61", "Größe zählt", "größe"),
        ("unicode61 tokenchars '-_'", "a well-known_name", "well-known_name"),
        ("ascii", "plain words", "WORDS"),
        ("trigram", "東京タワーに行く", "京タワ"),
        ("trigram", 'say "hi" there', 'y "h'),
        ("porter", "ponies", "pony"),
        ("PORTER  ascii", "diseases", "disease"),
        ("'porter' unicode61", "diseases", "disease"),
    ],
)
@pytest.mark.parametrize("pack", [False, True])
def test_other_tokenizers(tokenizer: str, text: str, query: str, pack: bool) -> None:
    corpus = Corpus(tokenizer=tokenizer)
    corpus.write([text] * 40 + ["zzz"] * 60)
    if pack:
        corpus.pack()
        assert corpus.packed_terms()
    assert {slot for slot, _ in corpus.search(query, 100)} == set(range(40))


@pytest.mark.parametrize("tokenizer", ["klingon", "unicode61 remove_diacritics 9", "porter klingon", "'", "a'); --"])
def test_unknown_tokenizers_are_refused(tokenizer: str) -> None:
    with pytest.raises(ValueError, match="unicode61"):
        KeywordIndex(tokenizer, [])


def test_unreadable_metadata_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="quotation mark"):
        KeywordIndex(TOKENIZER, ['a"b'])


def test_packed_terms_come_back() -> None:
    slots = np.array([0, 1, 65_535, 65_536, 400_000, 2**32 + 5], np.int64)
    scores = np.array([1e-6, 2e-6, 3e-7, 1e-6, 2.2e-6, 1e-6])
    found, values = unpack_term(pack_term("x", 0, slots, scores))
    np.testing.assert_array_equal(found, slots)
    np.testing.assert_allclose(values, scores, rtol=1e-3)


@pytest.mark.parametrize("size", [0, 1, 7, 5000, 20_000])
@pytest.mark.parametrize("count", [1, 10, 3000])
def test_best_gives_the_highest_with_ties_by_position(size: int, count: int) -> None:
    scores = np.random.default_rng(13).integers(0, 50, size).astype(np.float32)
    expected = [i for i in sorted(range(size), key=lambda i: (-scores[i], i)) if scores[i] > 0][:count]
    assert best(scores, count).tolist() == expected
