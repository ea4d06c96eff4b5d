"""Filters that mean nothing are refused, with a word on what is wrong, before anything is searched."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Any

import pytest
from haystack.errors import FilterError

from rom_haystack.document_stores.filters import MAX_COMPARISONS, MAX_DEPTH, to_sql


def comparison(field: Any, operator: Any, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_filters_that_are_nested_too_deep_are_refused(depth: int):
    node = comparison("a", "==", 1)
    for _ in range(depth - 1):
        node = {"operator": "AND", "conditions": [node]}
    with pytest.raises(FilterError, match=f"more than {MAX_DEPTH} levels"):
        to_sql(node)


def test_filters_with_too_many_comparisons_are_refused():
    conditions = [comparison("a", "==", number) for number in range(MAX_COMPARISONS + 1)]
    with pytest.raises(FilterError, match=f"{MAX_COMPARISONS + 1} comparisons.*by the operator 'in'"):
        to_sql({"operator": "OR", "conditions": conditions})


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([comparison("a", "==", 1)], "must be a dictionary, not list"),
        ({"meta.a": 1}, "'operator' is missing"),
        ({"operator": "AND"}, "'conditions' is missing"),
        ({"conditions": []}, "'operator' is missing"),
        ({"field": "a", "value": 1}, "'operator' is missing"),
        ({"field": "a", "operator": "=="}, "'value' is missing"),
        ({"operator": "==", "value": 1}, "'conditions' is missing"),
        ({"operator": "AND", "conditions": [comparison("a", "==", 1), "a"]}, "must be a dictionary, not str: 'a'"),
        ({"operator": "AND", "conditions": comparison("a", "==", 1)}, "must be a list, not dict"),
        ({"operator": "XOR", "conditions": []}, "logical operator 'XOR'.*AND, NOT, OR"),
        ({"operator": ["AND"], "conditions": []}, "Unknown logical operator"),
        (comparison("a", "$eq", 1), "comparison operator '\\$eq'.*!=, <, <=, ==, >, >=, in, not in"),
        (comparison(5, "==", 1), "must be a string, not int: 5"),
        (comparison("a", "in", 1), "'in' needs a list of values for 'a', not int"),
        (comparison("a", "not in", ("x",)), "'not in' needs a list of values for 'a', not tuple"),
        (comparison("a", "in", {"x"}), "needs a list of values"),
        (comparison("a", ">", [1]), "'>' can't compare 'a' with a list"),
        (comparison("a", "<=", {"b": 1}), "'<=' can't compare 'a' with a dict"),
        (comparison("a", ">", "1"), "can't compare 'a' with the string '1'.*such as '2024-05-31'"),
        (comparison("a", ">", "2024-05"), "with the string '2024-05'"),
        (comparison("a", "<", "word"), "with the string 'word'"),
        (comparison("a", "<", "9" * 20), "with the string '999"),
        (comparison("a", "<", date(2024, 1, 31)), "'a'.*of type date"),
        (comparison("a", "==", uuid.UUID(int=1)), "'a'.*of type UUID"),
        (comparison("a", "==", (1, 2)), "of type tuple"),
        (comparison("a", "in", [[datetime(2024, 1, 31)]]), "of type list"),
        (comparison("a", "==", {1: 2}), "of type dict"),
        (comparison("embedding", "==", [1.0]), "field 'embedding' are not possible. Only comparisons with None"),
        (comparison("blob", ">", None), "field 'blob' are not possible"),
        (comparison("score", ">", 0.5), "field 'score' are not possible"),
        (comparison("sparse_embedding", "==", None), "field 'sparse_embedding' are not possible"),
    ],
)
def test_a_bad_filter_is_named(filters: Any, message: str):
    with pytest.raises(FilterError, match=message):
        to_sql(filters)


def test_a_list_that_holds_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(FilterError, match="Metadata are JSON"):
        to_sql(comparison("a", "==", endless))
