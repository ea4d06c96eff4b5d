"""Fields of JSON rows, checked; whatever does not fit is named with its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from training.errors import DataError


def text_field(row: Any, field: str, where: str) -> str:
    """Return a field that must be non-empty text.

    Raises:
        DataError: It is not there, empty or of another type.
    """
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: field '{field}' must be non-empty text, found {value!r}.")
    return value


def label_field(row: dict[str, Any], fields: Collection[str], where: str) -> str:
    """Return the first of some fields that says something, as text; "" where none does. Numbers are taken as text.

    Raises:
        DataError: A field is neither text nor a whole number.
    """
    for field in fields:
        value = row.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise DataError(f"{where}: field '{field}' must be text, found {value!r}.")
        if value not in (None, ""):
            return str(value)
    return ""


def list_field(row: dict[str, Any], field: str, where: str, *, optional: bool = False) -> list[Any]:
    """Return a field that must be a list.

    Raises:
        DataError: It is of another type, or not there and not `optional`.
    """
    value = row.get(field)
    if value is None and optional:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where}: field '{field}' must be a list, not {type(value).__name__}.")
    return value


def flag_field(row: dict[str, Any], field: str, where: str) -> bool:
    """Return a field that must be true or false; not there means false.

    Raises:
        DataError: It is anything else.
    """
    value = row.get(field)
    if not isinstance(value, bool | None):
        raise DataError(f"{where}: field '{field}' must be true or false, found {value!r}.")
    return bool(value)


def offset_field(row: dict[str, Any], field: str, where: str) -> int | None:
    """Return a field that must be a whole number from 0; None where it is not there.

    Raises:
        DataError: It is anything else.
    """
    value = row.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise DataError(f"{where}: field '{field}' must be a whole number from 0, found {value!r}.")
    return value


def an_object(value: Any, where: str) -> dict[str, Any]:
    """Return a value that must be an object.

    Raises:
        DataError: It is none.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, found {type(value).__name__}.")
    return value


def count_unread(row: dict[str, Any], read: Collection[str], kind: str, left_out: Counter[str]) -> None:
    """Count the fields of a row that say something and are not read."""
    for field, value in row.items():
        if field not in read and value not in (None, "", [], {}):
            left_out[f"field '{field}' of {kind}"] += 1
