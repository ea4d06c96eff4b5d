"""What the metadata hold, as Haystack's in-memory store tells it; and the indexes on fields."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from haystack import Document
from haystack.document_stores.in_memory import InMemoryDocumentStore
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.document_stores.filters import TRUE, Condition, register_functions, to_sql
from rom_haystack.document_stores.metadata import (
    count_unique_metadata_by_filter,
    get_metadata_field_min_max,
    get_metadata_field_unique_values,
    get_metadata_fields_info,
    index_statements,
    sync_indexes,
)

DOCUMENTS_TABLE = """CREATE TABLE documents(
    slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT, meta TEXT NOT NULL,
    norm REAL, blob BLOB, extra TEXT
)"""
#: Metadata of which each function has something to overlook.
METADATA: list[dict[str, Any]] = [
    {"year": 1999, "kind": "Book", "mixed": 1, "tags": ["x", "y"]},
    {"year": 2005, "kind": "film", "mixed": "1", "tags": ["x", "y"]},
    {"year": 2005, "kind": "[1]", "mixed": True, "tags": ["y"]},
    {"year": 1950.5, "kind": None, "mixed": 1.0, "tags": {"b": 1, "a": 2}},
    {"kind": "book", "mixed": 1, "tags": {"a": 2, "b": 1}, "a.b": 7},
    {"kind": [1], "only": None, "flag": False, 'q"': "é", "é": "q"},
]
FROM_2000 = {"field": "meta.year", "operator": ">=", "value": 2000}


def fill(connection: sqlite3.Connection, metadata: list[dict[str, Any]]) -> None:
    connection.execute("DELETE FROM documents")
    rows = [(slot, str(slot), json.dumps(meta)) for slot, meta in enumerate(metadata)]
    connection.executemany("INSERT INTO documents(slot, id, meta) VALUES (?, ?, ?)", rows)


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(DOCUMENTS_TABLE)
    register_functions(connection)
    yield connection
    connection.close()


@pytest.fixture
def connection(empty: sqlite3.Connection) -> sqlite3.Connection:
    sync_indexes(empty, [])
    fill(empty, METADATA)
    return empty


def index_names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'")}


# Values


def test_unique_values_are_counted_by_equality(connection: sqlite3.Connection):
    fields = ["year", "meta.kind", "mixed", "tags", "only", "missing", "a.b", 'q"', "é"]
    assert count_unique_metadata_by_filter(connection, TRUE, fields) == {
        "year": 3,
        "kind": 5,
        "mixed": 2,
        "tags": 3,
        "only": 0,
        "missing": 0,
        "a.b": 1,
        'q"': 1,
        "é": 1,
    }


def test_unique_values_are_counted_among_the_documents_of_a_filter(connection: sqlite3.Connection):
    assert count_unique_metadata_by_filter(connection, to_sql(FROM_2000), ["year", "kind"]) == {"year": 1, "kind": 2}


def test_a_condition_with_an_alternative_stays_whole(connection: sqlite3.Connection):
    condition = Condition("slot = ? OR slot = ?", [0, 3])
    assert get_metadata_field_unique_values(connection, condition, "kind") == (["Book"], 1)


def test_the_type_of_a_field_is_that_of_its_last_value(connection: sqlite3.Connection):
    info = get_metadata_fields_info(connection)
    types = {name: field["type"] for name, field in info.items()}
    assert types == {
        "year": "float",
        "kind": "keyword",
        "mixed": "int",
        "tags": "keyword",
        "a.b": "int",
        "flag": "boolean",
        'q"': "keyword",
        "é": "keyword",
    }


@pytest.mark.parametrize("fields", [[], ["year", "kind", "mixed", "flag"]])
@pytest.mark.parametrize(
    ("name", "least", "greatest"),
    [
        ("year", 1950.5, 2005),
        ("meta.year", 1950.5, 2005),
        ("kind", "Book", "film"),
        ("mixed", None, None),
        ("tags", None, None),
        ("missing", None, None),
        ("a.b", 7, 7),
        ("é", "q", "q"),
    ],
)
def test_least_and_greatest_values(
    connection: sqlite3.Connection, fields: list[str], name: str, least: Any, greatest: Any
):
    sync_indexes(connection, fields)
    assert get_metadata_field_min_max(connection, name) == {"min": least, "max": greatest}


def test_least_and_greatest_of_booleans_are_booleans(connection: sqlite3.Connection):
    assert get_metadata_field_min_max(connection, "flag")["min"] is False


def test_unique_values_keep_their_types(connection: sqlite3.Connection):
    values, total = get_metadata_field_unique_values(connection, TRUE, "meta.mixed")
    assert [(type(value), value) for value in values] == [(int, 1), (str, "1"), (float, 1.0), (bool, True)]
    assert total == 4


@pytest.mark.parametrize(
    ("options", "values", "total"),
    [
        ({}, ["Book", [1], "[1]", "book", "film"], 5),
        ({"search_term": "BOOK"}, ["Book", "book"], 2),
        ({"search_term": "1"}, [[1], "[1]"], 2),
        ({"search_term": "nothing"}, [], 0),
        ({"from_": 1, "size": 2}, [[1], "[1]"], 5),
        ({"from_": 4, "size": 2}, ["film"], 5),
        ({"size": 0}, [], 5),
    ],
)
def test_unique_values_are_searched_sorted_and_paged(
    connection: sqlite3.Connection, options: dict[str, Any], values: list[Any], total: int
):
    assert get_metadata_field_unique_values(connection, TRUE, "kind", **options) == (values, total)


def test_unique_values_are_those_of_the_documents_of_a_filter(connection: sqlite3.Connection):
    assert get_metadata_field_unique_values(connection, to_sql(FROM_2000), "kind") == (["[1]", "film"], 2)


def test_an_empty_collection_has_no_values(connection: sqlite3.Connection):
    fill(connection, [])
    assert count_unique_metadata_by_filter(connection, TRUE, ["year"]) == {"year": 0}
    assert get_metadata_fields_info(connection) == {}
    assert get_metadata_field_min_max(connection, "year") == {"min": None, "max": None}
    assert get_metadata_field_unique_values(connection, TRUE, "year") == ([], 0)


KEYS = ["a", "b", "a.b", "é", ""]
SCALARS = st.sampled_from(
    [None, True, False, 0, 1, 1.0, -2, 2**63, 2**70, 0.1, "", "a", "A", "1", "[1]", "\ud800", "é"]
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=2)


@given(metadata=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES), max_size=6), key=st.sampled_from(KEYS))
def test_any_metadata_are_described_as_the_in_memory_store_does(
    empty: sqlite3.Connection, metadata: list[dict[str, Any]], key: str
):
    store = InMemoryDocumentStore()
    store.write_documents([Document(id=str(number), meta=meta) for number, meta in enumerate(metadata)])
    fill(empty, metadata)
    assert get_metadata_fields_info(empty) == store.get_metadata_fields_info()
    assert get_metadata_field_min_max(empty, key) == store.get_metadata_field_min_max(key)
    assert count_unique_metadata_by_filter(empty, TRUE, KEYS) == store.count_unique_metadata_by_filter({}, KEYS)
    page = {"metadata_field": key, "from_": 1, "size": 3}
    assert repr(get_metadata_field_unique_values(empty, TRUE, **page)) == repr(
        store.get_metadata_field_unique_values(**page)
    )


# Indexes


def test_indexes_are_those_of_the_fields_named_last(connection: sqlite3.Connection):
    sync_indexes(connection, ["year", "meta.author.name"])
    before = index_names(connection)
    sync_indexes(connection, ["kind", "year"])
    after = index_names(connection)
    assert (len(before), len(after), len(before & after)) == (3, 3, 2)
    sync_indexes(connection, [])
    assert len(index_names(connection)) == 1


def test_nothing_is_written_when_all_indexes_are_there(connection: sqlite3.Connection):
    sync_indexes(connection, ["year"])
    connection.execute("PRAGMA query_only = 1")
    try:
        sync_indexes(connection, ["meta.year", "year"])
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            sync_indexes(connection, ["kind"])
    finally:
        connection.execute("PRAGMA query_only = 0")


def test_indexes_of_others_are_left_alone(connection: sqlite3.Connection):
    connection.execute("CREATE INDEX metadata ON documents(norm)")
    sync_indexes(connection, ["year"])
    sync_indexes(connection, [])
    assert "metadata" in index_names(connection)
    connection.execute("DROP INDEX metadata")


def test_the_same_field_has_one_index_however_it_is_named():
    assert index_statements(["year", "meta.year"]) == index_statements(["year"])
    assert len(set(index_statements(["year", "a.b", "a b", "it's"]))) == 5


@pytest.mark.parametrize("field", ["", "meta.", "a..b", "é", 'q"', "back\\slash", "line\n"])
def test_a_field_that_cannot_have_an_index_is_named(connection: sqlite3.Connection, field: str):
    sync_indexes(connection, ["year"])
    before = index_names(connection)
    with pytest.raises(ValueError, match="can't have an index"):
        sync_indexes(connection, ["kind", field])
    assert index_names(connection) == before


def test_least_and_greatest_values_are_read_from_the_index(connection: sqlite3.Connection):
    sync_indexes(connection, ["year"])
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    get_metadata_field_min_max(connection, "year")
    connection.set_trace_callback(None)
    assert len(statements) == 4
    for statement in statements:
        plan = "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SEARCH documents USING INDEX" in plan
        assert "TEMP B-TREE" not in plan
