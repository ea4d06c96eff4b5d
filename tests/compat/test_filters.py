from __future__ import annotations

import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.compat import FAISSDocumentStore, convert_filters

FIELDS = ["name", "year", "tag"]
VALUES = st.sampled_from(["a", "b", "", 1, 2, 3, 2.5, True, False])
NUMBERS = st.sampled_from([0, 1, 2, 3, 2.5])
#: Metadata of documents; `year` is a number or missing, so that it can be ordered.
METAS = [
    {"name": name, "year": year, "tag": tag}
    for name in ("a", "b", None)
    for year in (1, 2, 2.5, None)
    for tag in ("a", 3, True, None)
]
METAS = [{key: value for key, value in meta.items() if value is not None} for meta in METAS]

comparison = st.one_of(
    st.tuples(st.sampled_from(FIELDS), VALUES),
    st.tuples(st.sampled_from(FIELDS), st.lists(VALUES, max_size=3)),
    st.tuples(
        st.sampled_from(FIELDS),
        st.dictionaries(st.sampled_from(["$eq", "$ne"]), VALUES, min_size=1, max_size=2),
    ),
    st.tuples(
        st.sampled_from(FIELDS),
        st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3), min_size=1, max_size=2),
    ),
    st.tuples(
        st.just("year"),
        st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS, min_size=1, max_size=2),
    ),
)
comparisons = st.lists(comparison, min_size=1, max_size=3).map(dict)
filters = st.recursive(
    comparisons,
    lambda inner: st.dictionaries(
        st.sampled_from(["$and", "$or", "$not"]),
        st.one_of(inner, st.lists(inner, min_size=1, max_size=2)),
        min_size=1,
        max_size=2,
    ),
    max_leaves=6,
)


def holds(condition, value, present):
    """One comparison, as 1.x's in-memory store made it."""
    operator, operand = condition
    if not present:
        return False
    return {
        "$eq": lambda: value == operand,
        "$ne": lambda: value != operand,
        "$in": lambda: value in operand,
        "$nin": lambda: value not in operand,
        "$gt": lambda: value > operand,
        "$gte": lambda: value >= operand,
        "$lt": lambda: value < operand,
        "$lte": lambda: value <= operand,
    }[operator]()


def conditions(term, meta):
    """Whether each condition of a dictionary, or of a list of dictionaries, holds."""
    for item in term if isinstance(term, list) else [term]:
        for key, value in item.items():
            if key == "$and":
                yield all(conditions(value, meta))
            elif key == "$or":
                yield any(conditions(value, meta))
            elif key == "$not":
                yield not any(conditions(value, meta))
            else:
                given = value if isinstance(value, dict) else {"$in" if isinstance(value, list) else "$eq": value}
                for condition in given.items():
                    yield holds(condition, meta.get(key), key in meta)


@given(filters)
def test_converted_filters_mean_what_they_meant(term):
    converted = convert_filters(term)
    for meta in METAS:
        assert document_matches_filter(converted, Document(content="x", meta=meta)) == all(conditions(term, meta))


@pytest.fixture(scope="module")
def faiss_store():
    store = FAISSDocumentStore(progress_bar=False)
    store.write_documents([{"content": str(number), "meta": meta} for number, meta in enumerate(METAS)])
    return store


class TestInTheStore:
    @given(term=filters)
    def test_the_store_finds_what_the_filters_meant(self, faiss_store, term):
        expected = {str(number) for number, meta in enumerate(METAS) if all(conditions(term, meta))}
        assert {document.content for document in faiss_store.get_all_documents(filters=term)} == expected


def test_nothing_lets_everything_pass():
    assert convert_filters(None) is None
    assert convert_filters({}) is None


def test_dates_are_compared_as_dates():
    converted = convert_filters({"date": {"$gte": "2015-01-01", "$lt": "2021-01-01"}})
    found = [
        d
        for d in ("2014-12-31", "2015-01-01", "2020-05-05", "2021-01-01")
        if document_matches_filter(converted, Document(content="x", meta={"date": d}))
    ]
    assert found == ["2015-01-01", "2020-05-05"]


def test_none_finds_documents_without_the_field():
    for meta, expected in (({}, True), ({"name": None}, True), ({"name": "a"}, False)):
        document = Document(content="x", meta=meta)
        assert document_matches_filter(convert_filters({"name": None}), document) is expected
        assert document_matches_filter(convert_filters({"name": {"$ne": None}}), document) is not expected


def test_filters_of_today_pass_as_they_are():
    for term in (
        {"field": "meta.name", "operator": "==", "value": "a"},
        {"operator": "OR", "conditions": [{"field": "meta.name", "operator": "==", "value": "a"}]},
    ):
        assert convert_filters(term) == term
    assert convert_filters({"operator": "Miller"}) == {"field": "meta.operator", "operator": "==", "value": "Miller"}


def test_the_filters_stay_as_they_are():
    term = {"$or": [{"a": ["x"]}, {"b": {"$ne": 2}}]}
    convert_filters(term)["conditions"][0]["value"].append("y")
    assert term == {"$or": [{"a": ["x"]}, {"b": {"$ne": 2}}]}


@pytest.mark.parametrize(
    ("term", "named"),
    [
        ({"name": {"$like": "x"}}, r"'\$like'.*'name'"),
        ({"name": {"$in": "abc"}}, "needs a list"),
        ({"$nor": {"name": "a"}}, r"'\$nor'"),
        ({"$eq": "a"}, r"'\$eq'"),
        ({"$or": {}}, r"no condition below '\$or'"),
        ({"$and": ["a"]}, "'a' is none"),
        ({"name": {}}, "'name'"),
        ("name == a", "is none"),
    ],
)
def test_malformed_filters_are_named(term, named):
    with pytest.raises(FilterError, match=named):
        convert_filters(term)
