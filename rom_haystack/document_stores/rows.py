"""Documents as rows of SQLite, and back."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

#: Columns of `documents` that `decode` takes, in its order.
COLUMNS = "id, content, meta, blob, extra"


class DamagedRowError(sqlite3.DatabaseError):
    """A row holds what was never written there; to be explained as any damage that SQLite finds."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Reads just the JSON that SQLite reads, too.
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def encode(document: Document) -> tuple[str | bytes, str | bytes | None, str, bytes | None, str | None]:
    """Turn a document into values for the columns of `COLUMNS`; its embedding and score are left out.

    Raises:
        ValueError: Its metadata hold something that JSON has no form for.
    """
    blob, extra = document.blob, {}
    if blob is not None:
        extra["blob"] = {"mime_type": blob.mime_type, "meta": blob.meta}
    if document.sparse_embedding is not None:
        extra["sparse_embedding"] = document.sparse_embedding.to_dict()
    return (
        _storable(document.id),
        None if document.content is None else _storable(document.content),
        to_json(document.meta, f"the metadata of document {document.id}") if document.meta else "{}",
        None if blob is None else blob.data,
        to_json(extra, f"the blob's metadata of document {document.id}") if extra else None,
    )


def decode(row: Sequence[Any], *, score: float | None = None, embedding: list[float] | None = None) -> Document:
    """Turn the columns of `COLUMNS` into a document.

    Raises:
        DamagedRowError: They don't hold what `encode` makes of a document.
    """
    try:
        return _decode(row, score, embedding)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedRowError(f"the row of document {row[0]!r} can't be read: {error}") from error


def _decode(row: Sequence[Any], score: float | None, embedding: list[float] | None) -> Document:
    name, content, meta, data, extra = row
    blob = sparse_embedding = None
    if extra is not None:
        fields = _DECODER.decode(extra)
        if "blob" in fields:
            blob = ByteStream(data=data, **fields["blob"])
        if "sparse_embedding" in fields:
            sparse_embedding = SparseEmbedding.from_dict(fields["sparse_embedding"])
    return Document(
        id=_text(name),
        content=_text(content),
        meta=decoded_meta(meta),
        blob=blob,
        sparse_embedding=sparse_embedding,
        score=score,
        embedding=embedding,
    )


def decoded_meta(meta: str) -> dict[str, Any]:
    """Read stored metadata.

    Raises:
        DamagedRowError: They are no JSON object.
    """
    try:
        fields = _DECODER.decode(meta)
    except (ValueError, TypeError) as error:
        raise DamagedRowError(f"metadata can't be read: {error}") from error
    if not isinstance(fields, dict):
        raise DamagedRowError(f"metadata are {meta[:100]}")
    return fields


def stored_id(name: str) -> str | bytes:
    """Return an id in the form in which it is stored."""
    return _storable(name)


def merged_meta(meta: str, changes: Mapping[str, Any]) -> str:
    """Set fields in stored metadata."""
    return to_json({**decoded_meta(meta), **changes}, "the changed metadata")


def to_json(value: dict[str, Any], what: str) -> str:
    """Write JSON that SQLite reads too.

    Args:
        value: Dictionaries, lists, strings, finite numbers, booleans and None.
        what: Name of the value, for errors.

    Raises:
        ValueError: There is something else in it.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        stray = next(_keys_that_change(value), None)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Can't store {what} as JSON: {error}. Use strings (dates: isoformat()), finite numbers, booleans, None, "
            "lists and dictionaries."
        ) from error
    if stray is not None:
        raise ValueError(f"Can't store {what} as JSON: the key {stray[0]!r} in it is no string.")
    return text


def _keys_that_change(value: Any) -> Iterator[tuple[Any]]:
    """Find keys, at any depth, of which JSON would make strings."""
    if isinstance(value, dict):
        yield from ((key,) for key in value if not isinstance(key, str))
        value = value.values()
    for item in value:
        if isinstance(item, dict | list | tuple):
            yield from _keys_that_change(item)


def _storable(text: str) -> str | bytes:
    """Keep text as it is where it is valid unicode; SQLite takes lone surrogates only as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(value: str | bytes | None) -> Any:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
