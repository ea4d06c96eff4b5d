"""Haystack's filters as SQL conditions over the table `documents`.

A condition means what `haystack.utils.filters.document_matches_filter` means. Numbers, plain strings and None are
compared by SQL alone, so that an index on the field's expression serves them. Lists, objects, dates and strings that
SQLite's JSON functions can't tell apart are narrowed down by SQL as far as possible and then put to Haystack's own
function. A missing field gives NULL, and AND and OR treat NULL as they treat false, so only a negation has to turn it
into one of the two: that is `IS NOT TRUE`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

import dateutil.parser  # type: ignore[import-untyped]
from haystack.dataclasses import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter

if TYPE_CHECKING:
    import sqlite3

#: How deep a filter may be nested, and how many comparisons it may have: SQLite's parser goes little further.
MAX_DEPTH = 16
MAX_COMPARISONS = 500

#: True for rows whose metadata may hold a NUL character, at which SQLite's JSON functions cut strings off.
HAS_NUL = r"instr(meta, '\u0000')"

LOGICAL_OPERATORS = ("AND", "NOT", "OR")
COMPARISON_OPERATORS = ("!=", "<", "<=", "==", ">", ">=", "in", "not in")

_DOCUMENT_FIELDS = {field.name for field in dataclasses.fields(Document)}
#: Columns that are NULL when a document lacks the field.
_PRESENCE_COLUMNS = {"embedding": "norm", "blob": "blob"}
#: What a JSON path can quote, and what `json.dumps` leaves as it is.
_PLAIN_KEY = re.compile(r"[ !#-\[\]-~]+")
#: What Haystack tries to read as a date when it tests for equality.
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ]|\Z)")
#: Wall-clock days of one instant: UTC offsets differ by less than two days, and "24:00" belongs to the next one.
_DAYS_OF_ONE_INSTANT = 3
#: Beyond this, SQLite reads JSON integers as floats.
_INTEGER_LIMIT = 2**63
#: Strings that look like JSON lists and objects, are cut off at NUL, or aren't valid unicode.
_AMBIGUOUS_TEXT = re.compile(r"^[\[{]|[\0\ud800-\udfff]")
#: Characters of a value up to which results of comparing it are kept.
_CACHED_LENGTH = 100

_Kind = Literal["none", "number", "text", "date", "other"]


@dataclass(frozen=True)
class Condition:
    """An SQL condition over the unqualified columns of `documents`; NULL counts as false.

    Attributes:
        sql: The condition, to stand after WHERE. It holds one `?` for each parameter.
        parameters: Values to bind, in order.
    """

    sql: str
    parameters: list[Any] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Field:
    """A field of a document in SQL.

    Attributes:
        value: Expression of its value: NULL, a number or a text; for lists and objects their JSON text.
        json: Expression of a JSON array whose first item is exactly the value.
        is_column: Whether the value is a text column, where SQLite would turn numbers into text to compare them.
    """

    value: str
    json: str
    is_column: bool = False


TRUE = Condition("TRUE")
FALSE = Condition("FALSE")


def to_sql(filters: dict[str, Any] | None) -> Condition:
    """Translate a Haystack filter into an SQL condition.

    The condition calls SQL functions: see `register_functions`.

    Args:
        filters: A comparison or a logical condition of any nesting, as Haystack's documentation describes it. None
            and `{}` let every document through.

    Returns:
        A condition that is true for the documents that the filter lets through, and false or NULL for all others.

    Raises:
        FilterError: The filter is malformed, names an unknown operator, or compares with a value that can't match.
    """
    if filters is None or filters == {}:
        return TRUE
    condition = _node(filters, depth=1)
    comparisons = _count_comparisons(filters)
    if comparisons > MAX_COMPARISONS:
        msg = (
            f"The filter has {comparisons} comparisons, but only {MAX_COMPARISONS} are possible. "
            "Compare one field with many values by the operator 'in'."
        )
        raise FilterError(msg)
    return condition


def register_functions(connection: sqlite3.Connection) -> None:
    """Give a connection the SQL functions that conditions call.

    Args:
        connection: The connection on which conditions will be run.
    """
    connection.create_function("rom_matches", 2, _matches, deterministic=True)
    connection.create_function("rom_member", 2, _member_json, deterministic=True)
    connection.create_function("rom_text", 1, _text_json, deterministic=True)


def meta_field(keys: Sequence[str]) -> Field:
    """Address a metadata field.

    Args:
        keys: The field's key, or the keys that lead to a nested one. A key is never split at dots.

    Returns:
        The field. Its `value` is the same text for the same keys, so that SQLite finds the field's index.
    """
    if is_plain_path(keys):
        path = _literal("$" + "".join(f'."{key}"' for key in keys))
        return Field(f"json_extract(meta, {path})", f"json_extract(meta, {path}, {path})")
    member = f"rom_member(meta, {_literal(json.dumps(list(keys)))})"
    return Field(f"json_extract({member}, '$[0]')", member)


def is_plain_path(keys: Sequence[str]) -> bool:
    """Tell whether SQLite alone can find a metadata field.

    Args:
        keys: The keys that lead to the field.

    Returns:
        False if a key is empty or has characters other than printable ASCII, or has quotes or backslashes.
    """
    return all(_PLAIN_KEY.fullmatch(key) for key in keys)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Structure of a filter


def _node(node: Any, depth: int) -> Condition:
    if not isinstance(node, dict):
        msg = f"A filter must be a dictionary, not {type(node).__name__}: {_shown(node)}"
        raise FilterError(msg)
    if depth > MAX_DEPTH:
        msg = f"The filter is nested more than {MAX_DEPTH} levels deep. Write it flatter."
        raise FilterError(msg)
    return _comparison(node) if "field" in node else _logical(node, depth)


def _logical(node: dict[str, Any], depth: int) -> Condition:
    operator = _required(node, "operator")
    conditions = _required(node, "conditions")
    if operator not in LOGICAL_OPERATORS:
        msg = f"Unknown logical operator {operator!r}. Choose one of: {', '.join(LOGICAL_OPERATORS)}."
        raise FilterError(msg)
    if not isinstance(conditions, list):
        msg = f"The conditions of {operator!r} must be a list, not {type(conditions).__name__}."
        raise FilterError(msg)
    parts = [_node(condition, depth + 1) for condition in conditions]
    if operator == "OR":
        return _any(parts)
    return _not(_all(parts)) if operator == "NOT" else _all(parts)


def _comparison(node: dict[str, Any]) -> Condition:
    name, operator = node["field"], _required(node, "operator")
    if not isinstance(name, str):
        msg = f"The field of a filter must be a string, not {type(name).__name__}: {_shown(name)}"
        raise FilterError(msg)
    if operator not in COMPARISON_OPERATORS:
        msg = f"Unknown comparison operator {operator!r}. Choose one of: {', '.join(COMPARISON_OPERATORS)}."
        raise FilterError(msg)
    value = _required(node, "value")
    if name in _PRESENCE_COLUMNS and value is None and operator in ("==", "!="):
        return Condition(f"{_PRESENCE_COLUMNS[name]} IS {'NOT ' if operator == '!=' else ''}NULL")
    field = _field(name)
    if operator in ("==", "!="):
        matches = _one_of(field, [_comparable(value, name)])
    elif operator in ("in", "not in"):
        if not isinstance(value, list):
            msg = f"The operator {operator!r} needs a list of values for {name!r}, not {type(value).__name__}."
            raise FilterError(msg)
        matches = _one_of(field, [_comparable(item, name) for item in value])
    else:
        return _ordered(field, operator, _orderable(value, name, operator))
    return _not(matches) if operator in ("!=", "not in") else matches


def _required(node: dict[str, Any], key: str) -> Any:
    if key not in node:
        msg = f"The key {key!r} is missing in the filter {_shown(node)}"
        raise FilterError(msg)
    return node[key]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _count_comparisons(node: dict[str, Any]) -> int:
    return 1 if "field" in node else sum(map(_count_comparisons, node["conditions"]))


def _all(conditions: list[Condition]) -> Condition:
    return _joined(conditions, " AND ") if conditions else TRUE


def _any(conditions: list[Condition]) -> Condition:
    return _joined(conditions, " OR ") if conditions else FALSE


def _joined(conditions: list[Condition], operator: str) -> Condition:
    if len(conditions) == 1:
        return conditions[0]
    parameters = [parameter for condition in conditions for parameter in condition.parameters]
    return Condition("(" + operator.join(condition.sql for condition in conditions) + ")", parameters)


def _not(condition: Condition) -> Condition:
    # No parentheses, of which the parser takes few: IS binds like comparisons, from the left; AND and OR have theirs.
    return Condition(f"{condition.sql} IS NOT TRUE", condition.parameters)


def _field(name: str) -> Field:
    root, *keys = name.split(".")
    if not keys and root not in _DOCUMENT_FIELDS:
        return meta_field([root])
    if root == "meta":
        return meta_field(keys) if keys else Field("meta", "'[' || meta || ']'", is_column=True)
    if keys:
        return Field("NULL", "'[null]'")
    if root in ("id", "content"):
        return Field(root, f"rom_text({root})", is_column=True)
    remedy = " Only comparisons with None by '==' and '!=' are." if root in _PRESENCE_COLUMNS else ""
    msg = f"Filters on the field {name!r} are not possible.{remedy}"
    raise FilterError(msg)


# Values of a filter


def _comparable(value: Any, name: str) -> Any:
    """The JSON form of a value that a field may equal."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, dict)) and _is_json(value):
        return value
    msg = (
        f"The filter on {name!r} compares with {_shown(value)} of type {type(value).__name__}. Metadata are JSON: "
        "compare with None, a bool, a number, a string, a datetime, or lists and dictionaries of JSON values."
    )
    raise FilterError(msg)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (RecursionError, TypeError, ValueError):
        return False


def _orderable(value: Any, name: str, operator: str) -> Any:
    """The JSON form of a value that a field may be less or greater than."""
    value = _comparable(value, name)
    if isinstance(value, (list, dict)):
        msg = f"The operator {operator!r} can't compare {name!r} with a {type(value).__name__}: {_shown(value)}"
        raise FilterError(msg)
    if isinstance(value, str) and not _is_whole_date(value):
        msg = (
            f"The operator {operator!r} can't compare {name!r} with the string {_shown(value)}. "
            "Give a number, or a date with year, month and day such as '2024-05-31' or '2024-05-31T12:00:00'."
        )
        raise FilterError(msg)
    return value


def _is_whole_date(text: str) -> bool:
    """Whether Haystack reads a text as a date that doesn't depend on today's."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        defaults = datetime(2000, 1, 1), datetime(2001, 2, 2)
        try:
            return len({dateutil.parser.parse(text, default=default) for default in defaults}) == 1
        except (ArithmeticError, TypeError, ValueError):
            return False
    return True


def _kind(value: Any) -> _Kind:
    """How a value is compared: "number" and "text" by SQLite alone, "date" and "other" with Haystack's help."""
    if value is None:
        return "none"
    if isinstance(value, (int, float)):
        return "number" if abs(value) < _INTEGER_LIMIT else "other"
    if isinstance(value, str) and not _AMBIGUOUS_TEXT.search(value):
        return "date" if _day(value) else "text"
    return "other"


def _day(text: str) -> date | None:
    """The day of an ISO date, the only form of a string that equals strings other than itself."""
    if not _ISO_DATE.match(text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


# Comparisons


def _one_of(field: Field, values: list[Any]) -> Condition:
    groups: defaultdict[_Kind, list[Any]] = defaultdict(list)
    for value in values:
        groups[_kind(value)].append(value)
    alternatives = []
    if groups["none"]:
        alternatives.append(Condition(f"{field.value} IS NULL"))
    if groups["number"] and not field.is_column:
        alternatives.append(_sql_one_of(field, groups["number"]))
    if groups["text"]:
        alternatives.append(_text_one_of(field, groups["text"]))
    if groups["date"]:
        alternatives.append(_date_one_of(field, groups["date"]))
    if groups["other"]:
        present = Condition(f"{field.value} IS NOT NULL")
        alternatives.append(_all([present, _haystack(field, "in", groups["other"])]))
    return _any(alternatives)


def _sql_one_of(field: Field, values: list[Any]) -> Condition:
    # Values go through JSON as those of the documents do, so that both are rounded and decoded alike.
    if len(values) == 1:
        return Condition(f"{field.value} = json_extract(?, '$')", [json.dumps(values[0])])
    return Condition(f"{field.value} IN (SELECT value FROM json_each(?))", [json.dumps(values)])


def _text_one_of(field: Field, texts: list[str]) -> Condition:
    equal = _sql_one_of(field, texts)
    if field.is_column:
        return equal
    whole = Condition(f"slot NOT IN (SELECT slot FROM documents WHERE {HAS_NUL})")
    return _all([equal, _any([whole, _haystack(field, "in", texts)])])


def _date_one_of(field: Field, texts: list[str]) -> Condition:
    days = [day.toordinal() for text in texts if (day := _day(text))]
    first = date.fromordinal(max(min(days) - _DAYS_OF_ONE_INSTANT, date.min.toordinal()))
    last = date.fromordinal(min(max(days) + _DAYS_OF_ONE_INSTANT, date.max.toordinal()))
    around = Condition(f"{field.value} BETWEEN ? AND ?", [first.isoformat(), last.isoformat() + "~"])
    return _all([around, _haystack(field, "in", texts)])


def _ordered(field: Field, operator: str, value: Any) -> Condition:
    if value is None:
        return FALSE
    if isinstance(value, str):
        return _all([Condition(f"typeof({field.value}) = 'text'"), _haystack(field, operator, value)])
    if field.is_column:
        return FALSE
    is_number = Condition(f"{field.value} < ''")  # SQLite orders NULL, numbers, texts
    if _kind(value) != "number":
        return _all([is_number, _haystack(field, operator, value)])
    ordered = Condition(f"{field.value} {operator} json_extract(?, '$')", [json.dumps(value)])
    return _all([ordered, is_number]) if operator in (">", ">=") else ordered


def _haystack(field: Field, operator: str, value: Any) -> Condition:
    comparison = {"field": "meta.value", "operator": operator, "value": value}
    return Condition(f"rom_matches({field.json}, ?)", [json.dumps(comparison)])


# SQL functions


def _matches(values: str, comparison: str) -> bool:
    """`rom_matches`: whether the first of the values, a JSON array, meets a comparison of the field "meta.value"."""
    return (_recently_compared if len(values) <= _CACHED_LENGTH else _compare)(values, comparison)


def _compare(values: str, comparison: str) -> bool:
    document = Document(id="compared", meta={"value": json.loads(values)[0]})
    try:
        return document_matches_filter(_loaded(comparison), document)
    except (ArithmeticError, FilterError, TypeError, ValueError):
        # The filter was found good before, so it is this document's value that can't be compared.
        return False


_recently_compared = lru_cache(maxsize=65536)(_compare)


@lru_cache(maxsize=64)
def _loaded(comparison: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(comparison)
    return loaded


def _member_json(meta: str, keys: str) -> str:
    """`rom_member`: a JSON array of the one value that the keys, a JSON array, lead to."""
    value = json.loads(meta)
    for key in json.loads(keys):
        value = value.get(key) if isinstance(value, dict) else None
    return json.dumps([value])


def _text_json(text: str | bytes | None) -> str:
    """`rom_text`: a JSON array of the one text; texts that are no valid unicode are stored as bytes."""
    return json.dumps([text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text])
