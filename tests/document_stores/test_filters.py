"""Filters in SQL let through exactly the documents that Haystack's own function lets through."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.testing.document_store import create_filterable_docs
from haystack.utils.filters import document_matches_filter
from hypothesis import example, given
from hypothesis import strategies as st

from rom_haystack.document_stores.filters import (
    COMPARISON_OPERATORS,
    MAX_COMPARISONS,
    MAX_DEPTH,
    register_functions,
    to_sql,
)
from rom_haystack.document_stores.metadata import sync_indexes

DOCUMENTS_TABLE = """CREATE TABLE documents(
    slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT, meta TEXT NOT NULL,
    norm REAL, blob BLOB, extra TEXT
)"""
INDEXED = ["a", "meta.b", "a.b", "x y"]


def stored(text: str | None) -> str | bytes | None:
    """Texts that are no valid unicode are stored as bytes."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def fill(connection: sqlite3.Connection, documents: list[Document]) -> None:
    """Put documents into an empty table; slots count from 0."""
    connection.execute("DELETE FROM documents")
    rows = [
        (
            slot,
            stored(document.id),
            stored(document.content),
            json.dumps(document.meta, allow_nan=False),
            1.0 if document.embedding else None,
            document.blob.data if document.blob else None,
        )
        for slot, document in enumerate(documents)
    ]
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, NULL)", rows)


def found(connection: sqlite3.Connection, filters: dict[str, Any] | None) -> list[int]:
    condition = to_sql(filters)
    query = f"SELECT slot FROM documents WHERE {condition.sql} ORDER BY slot"
    return [slot for (slot,) in connection.execute(query, condition.parameters)]


def plan(connection: sqlite3.Connection, filters: dict[str, Any]) -> str:
    condition = to_sql(filters)
    query = f"EXPLAIN QUERY PLAN SELECT slot FROM documents WHERE {condition.sql}"
    return "\n".join(row[3] for row in connection.execute(query, condition.parameters))


def expected(documents: list[Document], filters: dict[str, Any]) -> list[int]:
    return [slot for slot, document in enumerate(documents) if passes(filters, document)]


def passes(filters: dict[str, Any], document: Document) -> bool:
    """Haystack's verdict, comparison by comparison: one that raises because of the document's value doesn't match."""
    if "field" not in filters:
        verdicts = [passes(condition, document) for condition in filters["conditions"]]
        if filters["operator"] == "OR":
            return any(verdicts)
        return all(verdicts) == (filters["operator"] == "AND")
    try:
        return document_matches_filter(filters, document)
    except (FilterError, TypeError, ValueError, OverflowError):
        return False


def comparison(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(DOCUMENTS_TABLE)
    register_functions(connection)
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def unindexed() -> Iterator[sqlite3.Connection]:
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def indexed() -> Iterator[sqlite3.Connection]:
    connection = connect()
    sync_indexes(connection, INDEXED)
    yield connection
    connection.close()


# Random documents, random filters

NUMBERS = [
    0,
    1,
    -1,
    2,
    1.0,
    0.1,
    0.1 + 0.2,
    1e300,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**63 + 1,
    -(2**63),
    2**70,
    1e-320,
]
DATES = [
    "2024-01-31",
    "2024-01-31T00:00:00",
    "2024-01-31 00:00:00Z",
    "2024-01-31T02:00:00+02:00",
    "2024-01-30T24:00:00",
    "2024-01-30T12:00:00-12:00",
    "2024-02-01",
    "20240131",
    "January 31, 2024",
    "0001-01-01",
    "9999-12-31T23:59:59.999999",
]
ODD_DATES = ["2024-02-30", "2024-01-31 or so", "2024-13-01", "12", "9" * 20, "2024-01-31Tx"]
TEXTS = [
    "",
    "a",
    "a\0",
    "a\0b",
    "A",
    "1",
    "1.0",
    "true",
    "null",
    "[1]",
    "{}",
    '"',
    "'",
    "é",
    "😀",
    "\ud800",
    "%",
    "\\u0000",
]
KEYS = ["a", "b", "x y", "é", 'q"', "it's", "back\\slash", "", "nul\0", "id", "$[0]"]
FIELDS = [
    *("a", "b", "é", "content_type", "meta", "meta.", "meta.a", "meta.b", "meta.a.b", "meta.a.a", "meta.x y", "meta.é"),
    *(
        'meta.q"',
        "meta.it's",
        "meta.back\\slash",
        "meta.a.",
        "meta..a",
        "meta.nul\0",
        "meta.id",
        "meta.$[0]",
        "meta.a.é",
    ),
    *("id", "content", "id.x", "content.a", "elsewhere.a", "meta.missing"),
]
SCALARS = st.sampled_from([None, True, False, *NUMBERS, *DATES, *ODD_DATES, *TEXTS])
JSON = st.recursive(
    SCALARS,
    lambda items: st.lists(items, max_size=2) | st.dictionaries(st.sampled_from(KEYS[:4]), items, max_size=2),
    max_leaves=3,
)
METADATA = st.dictionaries(st.sampled_from(KEYS), JSON | st.floats(allow_nan=False, allow_infinity=False), max_size=4)
DATETIMES = st.sampled_from(
    [
        datetime(2024, 1, 31),
        datetime(2024, 1, 31, tzinfo=UTC),
        datetime(2024, 1, 31, 2, tzinfo=timezone(timedelta(hours=2))),
    ]
)
#: Haystack reads "24:00" when it tests for equality only.
ORDERABLE_DATES = [text for text in DATES if "24:00" not in text]
ORDERABLE = (
    st.sampled_from([None, True, *NUMBERS, *ORDERABLE_DATES, float("inf"), float("-inf"), float("nan")]) | DATETIMES
)
COMPARABLE = JSON | DATETIMES | st.sampled_from([float("inf"), float("nan")])


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    field, operator = draw(st.sampled_from(FIELDS)), draw(st.sampled_from(COMPARISON_OPERATORS))
    values = {"==": COMPARABLE, "!=": COMPARABLE, "in": st.lists(COMPARABLE, max_size=4)}
    values["not in"] = values["in"]
    return comparison(field, operator, draw(values.get(operator, ORDERABLE)))


FILTERS = st.recursive(
    comparisons(),
    lambda nodes: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(nodes, max_size=3)}
    ),
    max_leaves=5,
)


@st.composite
def collections(draw: st.DrawFn) -> list[Document]:
    contents = st.none() | st.sampled_from([*TEXTS, *DATES])
    return [
        Document(id=f"{text}{number}" or "0", content=draw(contents), meta=draw(METADATA))
        for number, text in enumerate(draw(st.lists(st.sampled_from([*TEXTS, *DATES]), max_size=5)))
    ]


@given(documents=collections(), filters=FILTERS)
def test_any_filter_lets_through_what_haystack_lets_through(
    unindexed: sqlite3.Connection, indexed: sqlite3.Connection, documents: list[Document], filters: dict[str, Any]
):
    for connection in (unindexed, indexed):
        fill(connection, documents)
        assert found(connection, filters) == expected(documents, filters)


@given(operator=st.sampled_from(COMPARISON_OPERATORS[:6]), field=st.sampled_from(["meta.a", "meta.é"]), value=ORDERABLE)
@example(operator="==", field="meta.a", value=[1])
@example(operator="==", field="meta.a", value="a")
@example(operator="!=", field="meta.a", value="a")
@example(operator="==", field="meta.a", value="a\0b")
@example(operator="==", field="meta.a", value="9999-12-31T23:59:59.999999")
@example(operator="==", field="meta.a", value=2**63 + 1)
def test_any_value_is_compared_with_all_values_as_haystack_does(
    indexed: sqlite3.Connection, operator: str, field: str, value: Any
):
    values = [None, True, False, *NUMBERS, *DATES, *ODD_DATES, *TEXTS, [1], [1.0], ["2024-01-31"], {}, {"b": 1}]
    documents = [Document(id=str(number), meta={field[-1]: value}) for number, value in enumerate([*values, *values])]
    fill(indexed, documents)
    assert found(indexed, comparison(field, operator, value)) == expected(documents, comparison(field, operator, value))


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_every_float_equals_itself(unindexed: sqlite3.Connection, values: list[float]):
    fill(unindexed, [Document(id=str(number), meta={"a": value}) for number, value in enumerate(values)])
    for slot, value in enumerate(values):
        assert slot in found(unindexed, comparison("meta.a", "==", value))
        assert slot in found(unindexed, comparison("meta.a", "in", [value, "other"]))
        assert slot not in found(unindexed, comparison("meta.a", ">", value))
        assert slot in found(unindexed, comparison("meta.a", "<=", value))


@given(name=st.text(), value=st.text())
def test_no_field_name_or_value_breaks_out_of_the_query(unindexed: sqlite3.Connection, name: str, value: str):
    documents = [Document(id="0", meta={name: value}), Document(id="1", meta={"other": value})]
    fill(unindexed, documents)
    filters = comparison(f"meta.{name}", "==", value)
    assert found(unindexed, filters) == expected(documents, filters)


# Meanings, one by one


def test_haystacks_own_example_documents_are_filtered_as_haystack_does(connection: sqlite3.Connection):
    documents = create_filterable_docs()
    fill(connection, documents)
    filters = {
        "operator": "OR",
        "conditions": [
            {
                "operator": "AND",
                "conditions": [comparison("meta.number", ">=", -2), comparison("meta.date", "<", "1972-01-01")],
            },
            {"operator": "NOT", "conditions": [comparison("meta.name", "not in", ["zeros_doc"])]},
        ],
    }
    assert found(connection, filters) == [0, 4, 6, 10, 12, 16]


@pytest.mark.parametrize("filters", [None, {}, {"operator": "AND", "conditions": []}])
def test_an_empty_filter_lets_every_document_through(connection: sqlite3.Connection, filters: dict[str, Any] | None):
    fill(connection, [Document(id="0"), Document(id="1", meta={"a": 1})])
    assert found(connection, filters) == [0, 1]


@pytest.mark.parametrize("operator", ["OR", "NOT"])
def test_no_alternative_and_the_negation_of_everything_let_nothing_through(
    connection: sqlite3.Connection, operator: str
):
    fill(connection, [Document(id="0")])
    assert found(connection, {"operator": operator, "conditions": []}) == []


@pytest.mark.parametrize(
    ("operator", "value", "slots"),
    [
        ("==", 1, [1]),
        ("!=", 1, [0, 2, 3, 4]),
        ("not in", [1, 2], [0, 3, 4]),
        ("not in", [], [0, 1, 2, 3, 4]),
        ("in", [None, 2], [0, 2, 4]),
        ("not in", [None], [1, 2, 3]),
        (">", 0, [1, 2]),
    ],
)
def test_a_missing_field_is_none(connection: sqlite3.Connection, operator: str, value: Any, slots: list[int]):
    metadata = [{}, {"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}]
    fill(connection, [Document(id=str(number), meta=meta) for number, meta in enumerate(metadata)])
    assert found(connection, comparison("meta.a", operator, value)) == slots
    negated = {"operator": "NOT", "conditions": [comparison("meta.a", operator, value)]}
    assert found(connection, negated) == sorted(set(range(5)) - set(slots))


def test_strings_are_not_taken_for_the_lists_that_they_look_like(connection: sqlite3.Connection):
    values = ["[1]", [1], '{"b": 1}', {"b": 1}]
    fill(connection, [Document(id=str(number), meta={"a": value}) for number, value in enumerate(values)])
    for slot, value in enumerate(values):
        assert found(connection, comparison("meta.a", "==", value)) == [slot]
        assert found(connection, comparison("meta.a", "in", [value, 5])) == [slot]


def test_ids_and_contents_are_texts_even_when_they_look_like_numbers(connection: sqlite3.Connection):
    fill(connection, [Document(id="1", content="2"), Document(id="2", content=None)])
    assert found(connection, comparison("id", "==", "1")) == [0]
    assert found(connection, comparison("content", "in", ["2", 2])) == [0]
    assert found(connection, comparison("id", "==", 1)) == []
    assert found(connection, comparison("content", "!=", 2)) == [0, 1]
    for operator in (">", ">=", "<", "<="):
        assert found(connection, comparison("content", operator, 2)) == []


def test_dates_are_equal_when_they_name_the_same_instant(connection: sqlite3.Connection):
    values = [
        "2024-01-31",
        "2024-01-31T00:00:00Z",
        "2024-01-30T22:00:00-02:00",
        "2024-01-30T24:00",
        "2024-02-01",
        20240131,
    ]
    fill(connection, [Document(id=str(number), meta={"a": value}) for number, value in enumerate(values)])
    assert found(connection, comparison("meta.a", "==", datetime(2024, 1, 31, tzinfo=UTC))) == [0, 1, 2, 3]
    assert found(connection, comparison("meta.a", "in", ["2024-02-01T00:00", "2024-01-31"])) == [0, 1, 3, 4]


def test_a_value_that_cannot_be_compared_does_not_match(connection: sqlite3.Connection):
    values: list[Any] = [1, "word", [1], {"b": 1}, None, "2024-01-31"]
    fill(connection, [Document(id=str(number), meta={"a": value}) for number, value in enumerate(values)])
    assert found(connection, comparison("meta.a", ">=", 0)) == [0]
    assert found(connection, comparison("meta.a", "<", 5)) == [0]
    assert found(connection, comparison("meta.a", "<", "2025-01-01")) == [5]
    assert found(connection, comparison("meta.a", "<", datetime(2025, 1, 1, tzinfo=UTC))) == [5]


def test_thousands_of_values_can_be_listed(connection: sqlite3.Connection):
    fill(
        connection, [Document(id=f"id {number}", meta={"a": number, "b": f"b{number}"}) for number in range(0, 9000, 3)]
    )
    assert found(connection, comparison("meta.a", "in", list(range(6000)))) == list(range(2000))
    assert found(connection, comparison("meta.b", "in", [f"b{number}" for number in range(6000)])) == list(range(2000))
    assert found(connection, comparison("id", "not in", [f"id {number}" for number in range(6000)])) == list(
        range(2000, 3000)
    )
    dates = [f"{year}-01-01" for year in range(1000, 5000)]
    assert found(connection, comparison("meta.b", "in", dates)) == []


def test_documents_with_and_without_embedding_or_blob_can_be_told_apart(connection: sqlite3.Connection):
    fill(connection, [Document(id="0", embedding=[1.0]), Document(id="1")])
    assert found(connection, comparison("embedding", "!=", None)) == [0]
    assert found(connection, comparison("embedding", "==", None)) == [1]
    assert found(connection, comparison("blob", "!=", None)) == []


def test_numbers_of_numpy_are_numbers(connection: sqlite3.Connection):
    fill(connection, [Document(id=str(number), meta={"a": number}) for number in range(3)])
    assert found(connection, comparison("meta.a", "==", np.int64(1))) == [1]
    assert found(connection, comparison("meta.a", ">", np.float32(0.5))) == [1, 2]


# Plans


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("==", 1),
        ("==", True),
        ("==", 0.5),
        ("==", None),
        ("==", "text"),
        ("==", "2024-01-31"),
        ("in", [1, 2, 3]),
        ("in", ["one", "two"]),
        (">", 1),
        (">=", 1),
        ("<", 1),
        ("<=", 1),
    ],
)
@pytest.mark.parametrize("field", ["meta.a", "a", "meta.b", "meta.a.b", "meta.x y"])
def test_an_index_is_searched(indexed: sqlite3.Connection, field: str, operator: str, value: Any):
    name = "meta_" + field.removeprefix("meta.").encode().hex()
    asked = comparison(field, operator, value)
    assert f"SEARCH documents USING INDEX {name} " in plan(indexed, asked)
    unindexed_too = {"operator": "AND", "conditions": [comparison("meta.other", ">", 1), asked]}
    assert f"SEARCH documents USING INDEX {name} " in plan(indexed, unindexed_too)


def test_alternatives_that_all_have_an_index_use_it(indexed: sqlite3.Connection):
    filters = {"operator": "OR", "conditions": [comparison("a", "==", 1), comparison("b", "in", ["x", "y"])]}
    assert "MULTI-INDEX OR" in plan(indexed, filters)


@pytest.mark.parametrize(("operator", "value"), [("==", "x"), ("in", ["x", "y"])])
def test_ids_are_looked_up(indexed: sqlite3.Connection, operator: str, value: Any):
    assert "SEARCH documents USING COVERING INDEX" in plan(indexed, comparison("id", operator, value))


# Limits


def nested(depth: int) -> dict[str, Any]:
    """A filter of that depth that makes the longest SQL: each level negates, and the deepest compares a string."""
    node = comparison('meta.q"', "not in", ["a", 1, None, "2024-01-31", [1]])
    for _ in range(depth - 1):
        node = {"operator": "NOT", "conditions": [comparison("a", "==", "a"), {**comparison("b", "!=", 1)}, node]}
    return node


def test_filters_work_up_to_the_deepest_and_the_longest(connection: sqlite3.Connection):
    documents = [Document(id="0", meta={"a": "a", 'q"': 1}), Document(id="1", meta={"a": "a", 'q"': 2})]
    fill(connection, documents)
    for operator in ("OR", "AND"):
        conditions = [comparison('meta.q"', "in", [1, "a", f"b{number}"]) for number in range(MAX_COMPARISONS)]
        assert found(connection, {"operator": operator, "conditions": conditions}) == [0]
    deep = nested(MAX_DEPTH)
    assert found(connection, deep) == expected(documents, deep)
    condition = to_sql(deep)
    embedded = f"SELECT count(*) FROM (SELECT slot FROM documents WHERE slot > 0 AND ({condition.sql}))"
    assert connection.execute(embedded, condition.parameters).fetchone() == (
        len([s for s in expected(documents, deep) if s]),
    )
