"""Filters of Haystack 1.x, turned into today's."""

from collections.abc import Mapping
from typing import Any

from haystack.errors import FilterError

_LOGICAL = ("$and", "$or", "$not")
_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_KNOWN = ", ".join(("$eq", "$ne", "$in", "$nin", *_COMPARISONS))


def convert_filters(filters: Any) -> dict[str, Any] | None:
    """Turn filters of Haystack 1.x into today's.

    In 1.x a filter is a dictionary, or a list of them, of metadata fields and logical operators:
    `{"type": "article", "date": {"$gte": "2015-01-01"}, "$or": {"genre": ["economy", "politics"], "rating": 5}}`.
    A bare value means `$eq`, a list `$in`. All conditions of a dictionary, or a list of dictionaries, belong to the
    operator around them, one by one: those below `$or` are alternatives, even two of one field or of one dictionary in
    a list, and none of those below `$not` may hold.

    No comparison holds where the field is missing, `$ne` and `$nin` included, as in 1.x's in-memory and SQL stores.
    Today's stores can't tell a field that is None from one that is missing, so `{"field": None}` finds both. `$gt`,
    `$gte`, `$lt` and `$lte` compare numbers, and texts only if they are ISO dates.

    Args:
        filters: Filters of 1.x. None and `{}` let everything pass; today's filters are returned as they are.

    Raises:
        FilterError: The filters are malformed; the message names the part.
    """
    if not filters:
        return None
    if isinstance(filters, Mapping) and "operator" in filters and ("conditions" in filters or "field" in filters):
        return dict(filters)
    return _joined("AND", _conditions(filters))


def _conditions(term: Any) -> list[dict[str, Any]]:
    """Turn every condition of a dictionary, or of a list of dictionaries, into one of today's."""
    found: list[dict[str, Any]] = []
    for item in term if isinstance(term, list) else [term]:
        if not isinstance(item, Mapping):
            raise FilterError(f"Filters are dictionaries, or lists of them; {item!r} is none.")
        for key, value in item.items():
            if key in _LOGICAL:
                found.append(_logical(key, value))
            elif str(key).startswith("$"):
                raise FilterError(
                    f"{key!r} stands where a metadata field or one of {', '.join(_LOGICAL)} must; comparisons go below "
                    "a field, as in {'rating': {'$gte': 3}}."
                )
            else:
                found += _comparisons(str(key), value)
    return found


def _logical(operator: str, value: Any) -> dict[str, Any]:
    conditions = _conditions(value)
    if not conditions:
        raise FilterError(f"There is no condition below {operator!r}; give at least one, or leave it out.")
    if operator == "$not":
        return {"operator": "NOT", "conditions": [_joined("OR", conditions)]}
    return _joined("AND" if operator == "$and" else "OR", conditions)


def _joined(operator: str, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"operator": operator, "conditions": conditions}


def _comparisons(name: str, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        if not value:
            raise FilterError(f"There is no comparison for the field {name!r}; give one of {_KNOWN}.")
        return [_comparison(name, str(operator), operand) for operator, operand in value.items()]
    return [_comparison(name, "$in" if isinstance(value, list | tuple | set | frozenset) else "$eq", value)]


def _comparison(name: str, operator: str, operand: Any) -> dict[str, Any]:
    field = f"meta.{name}"
    if operator == "$eq":
        return {"field": field, "operator": "==", "value": operand}
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list | tuple | set | frozenset):
            raise FilterError(f"{operator!r} for the field {name!r} needs a list of values, not {operand!r}.")
        values = list(operand)
        if operator == "$in":
            return {"field": field, "operator": "in", "value": values}
        return _present(field, {"field": field, "operator": "not in", "value": values})
    if operator == "$ne":
        return _present(field, {"field": field, "operator": "!=", "value": operand})
    if operator in _COMPARISONS:
        return {"field": field, "operator": _COMPARISONS[operator], "value": operand}
    raise FilterError(f"Unknown comparison {operator!r} for the field {name!r}; choose one of {_KNOWN}.")


def _present(field: str, condition: dict[str, Any]) -> dict[str, Any]:
    """Let a condition hold only where the field is there."""
    return {"operator": "AND", "conditions": [{"field": field, "operator": "!=", "value": None}, condition]}
