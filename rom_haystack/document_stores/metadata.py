"""What the metadata of a collection hold: fields, their types, ranges and values; and the indexes on fields.

The results are those of Haystack's `InMemoryDocumentStore`. There a field is a key of the metadata, with or without the
prefix "meta."; a key is never split at dots. Connections must know the functions of `filters.register_functions`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rom_haystack.document_stores.filters import HAS_NUL, Condition, Field, is_plain_path, meta_field
from rom_haystack.document_stores.rows import decoded_meta

if TYPE_CHECKING:
    import sqlite3

_PREFIX = "meta."
_INDEX_PREFIX = "meta_"
_NUL_INDEX = f"{_INDEX_PREFIX}with_nul"


def count_unique_metadata_by_filter(
    connection: sqlite3.Connection, condition: Condition, metadata_fields: Sequence[str]
) -> dict[str, int]:
    """Count the different values of metadata fields.

    Args:
        connection: The connection to read from.
        condition: Which documents to look at.
        metadata_fields: Names of fields, with or without the prefix "meta.".

    Returns:
        For each name, without the prefix, the number of values of which no two are equal in Python. None and missing
        fields don't count.
    """
    keys = [name.removeprefix(_PREFIX) for name in metadata_fields]
    return {
        key: len({_hashable(value) for value in _distinct_values(connection, condition, meta_field([key]))})
        for key in keys
    }


def get_metadata_fields_info(connection: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """Name the metadata fields of all documents and their types.

    Args:
        connection: The connection to read from.

    Returns:
        For each field, `{"type": …}` with "boolean", "int", "float", or "keyword" for all else: the type in the
        document written last among those where the field is not None.
    """
    types: dict[str, str] = {}
    for (meta,) in connection.execute("SELECT meta FROM documents ORDER BY slot"):
        for key, value in decoded_meta(meta).items():
            if value is not None:
                types[key] = _type_name(value)
    return {key: {"type": name} for key, name in types.items()}


def get_metadata_field_min_max(connection: sqlite3.Connection, metadata_field: str) -> dict[str, Any]:
    """Give the least and the greatest value of a metadata field over all documents.

    Args:
        connection: The connection to read from.
        metadata_field: Name of the field, with or without the prefix "meta.".

    Returns:
        A dictionary with the keys "min" and "max". Lists and dictionaries are passed over. Both are None where there is
        no value, or where numbers and strings are mixed.
    """
    field = meta_field([metadata_field.removeprefix(_PREFIX)])
    numbers = _ends(connection, field, f"{field.value} < ''")
    texts = _ends(connection, field, f"{field.value} >= '' AND json_type({field.json}, '$[0]') = 'text'")
    ends = numbers or texts
    if ends is None or (numbers and texts):
        return {"min": None, "max": None}
    return {"min": ends[0], "max": ends[1]}


def get_metadata_field_unique_values(
    connection: sqlite3.Connection,
    condition: Condition,
    metadata_field: str,
    search_term: str | None = None,
    from_: int = 0,
    size: int = 10,
) -> tuple[list[Any], int]:
    """List the different values of a metadata field, page by page.

    Args:
        connection: The connection to read from.
        condition: Which documents to look at.
        metadata_field: Name of the field, with or without the prefix "meta.".
        search_term: Keep only values whose `str` has this text in it; upper and lower case are the same. None and ""
            keep all.
        from_: How many values to pass over.
        size: How many values to return at most.

    Returns:
        The page's values, in the order of their `str`, and the number of values on all pages. Values of different types
        (1, 1.0, True, "1") are different. None doesn't count.
    """
    unique: dict[tuple[str, Any], Any] = {}
    for value in _distinct_values(connection, condition, meta_field([metadata_field.removeprefix(_PREFIX)])):
        unique.setdefault((type(value).__name__, _hashable(value)), value)
    needle = (search_term or "").lower()
    found = [(str(value), name, value) for (name, _), value in unique.items() if needle in str(value).lower()]
    found.sort(key=lambda item: item[:2])
    return [value for *_, value in found[from_ : from_ + size]], len(found)


def index_statements(fields: Iterable[str]) -> list[str]:
    """Write the statements that create the indexes on metadata fields.

    Args:
        fields: Names of fields as filters have them, with or without the prefix "meta."; dots lead into nested fields.

    Returns:
        One statement for each field, and one for a small index that comparisons with strings need.

    Raises:
        ValueError: A field can't have an index, because of characters in its name.
    """
    return list(_indexes(fields).values())


def has_indexes(connection: sqlite3.Connection, fields: Iterable[str]) -> bool:
    """Tell whether the indexes on metadata fields are just those that `sync_indexes` would leave."""
    return _present_indexes(connection) == _indexes(fields).keys()


def indexed_fields(connection: sqlite3.Connection) -> list[str]:
    """Name the metadata fields that have an index."""
    names = _present_indexes(connection) - {_NUL_INDEX}
    return sorted(bytes.fromhex(name.removeprefix(_INDEX_PREFIX)).decode() for name in names)


def sync_indexes(connection: sqlite3.Connection, fields: Iterable[str]) -> None:
    """Create the missing indexes on metadata fields and drop those on fields no longer named.

    Nothing is written when all is in place already.

    Args:
        connection: The connection to write to; transactions are the caller's.
        fields: Names of fields, as `index_statements` takes them.

    Raises:
        ValueError: A field can't have an index, because of characters in its name.
    """
    wanted, present = _indexes(fields), _present_indexes(connection)
    for name in sorted(present - wanted.keys()):
        connection.execute(f'DROP INDEX "{name}"')
    for name, statement in wanted.items():
        if name not in present:
            connection.execute(statement)


def _present_indexes(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'documents' AND name GLOB ?"
    return {name for (name,) in connection.execute(query, [f"{_INDEX_PREFIX}*"])}


def _indexes(fields: Iterable[str]) -> dict[str, str]:
    """The statement for each index, by the index's name."""
    indexes = {_NUL_INDEX: f"CREATE INDEX {_NUL_INDEX} ON documents(slot) WHERE {HAS_NUL}"}
    for field in fields:
        path = field.removeprefix(_PREFIX)
        keys = path.split(".")
        if not is_plain_path(keys):
            msg = (
                f"The metadata field {field!r} can't have an index: names of indexed fields are printable ASCII "
                "without quotation marks and backslashes, and no part between dots is empty. "
                "Filters on it work without an index."
            )
            raise ValueError(msg)
        name = _INDEX_PREFIX + path.encode().hex()
        indexes[name] = f"CREATE INDEX {name} ON documents({meta_field(keys).value})"
    return indexes


def _distinct_values(connection: sqlite3.Connection, condition: Condition, field: Field) -> Iterator[Any]:
    """Values that are not None, as Python has them; equal ones may come more than once."""
    query = f"SELECT DISTINCT {field.json} FROM documents WHERE {field.value} IS NOT NULL AND ({condition.sql})"
    for (values,) in connection.execute(query, condition.parameters):
        yield json.loads(values)[0]


def _ends(connection: sqlite3.Connection, field: Field, condition: str) -> tuple[Any, Any] | None:
    """The first and the last value among those that meet a condition."""
    query = f"SELECT {field.json} FROM documents WHERE {condition} ORDER BY {field.value} {{}} LIMIT 1"
    rows = [connection.execute(query.format(order)).fetchone() for order in ("ASC", "DESC")]
    if rows[0] is None:
        return None
    least, greatest = (json.loads(values)[0] for (values,) in rows)
    return least, greatest


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "keyword"


def _hashable(value: Any) -> Any:
    """A value that is equal to another's exactly if the two JSON values are equal."""
    if isinstance(value, list):
        return "list", tuple(map(_hashable, value))
    if isinstance(value, dict):
        return "dict", frozenset((key, _hashable(item)) for key, item in value.items())
    return value
