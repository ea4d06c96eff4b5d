"""Documents as rows of SQLite, and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

#: Columns of `documents` that `decode` takes, in its order.
COLUMNS = "id, content, meta, blob, extra"


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
    """Turn the columns of `COLUMNS` into a document."""
    name, content, meta, data, extra = row
    blob = sparse_embedding = None
    if extra is not None:
        fields = json.loads(extra)
        if "blob" in fields:
            blob = ByteStream(data=data, **fields["blob"])
        if "sparse_embedding" in fields:
            sparse_embedding = SparseEmbedding.from_dict(fields["sparse_embedding"])
    return Document(
        id=_text(name),
        content=_text(content),
        meta=json.loads(meta),
        blob=blob,
        sparse_embedding=sparse_embedding,
        score=score,
        embedding=embedding,
    )


def stored_id(name: str) -> str | bytes:
    """Return an id in the form in which it is stored."""
    return _storable(name)


def merged_meta(meta: str, changes: Mapping[str, Any]) -> str:
    """Set fields in stored metadata."""
    return to_json({**json.loads(meta), **changes}, "the changed metadata")


def to_json(value: Any, what: str) -> str:
    """Write JSON that SQLite reads too.

    Args:
        value: Dictionaries, lists, strings, finite numbers, booleans and None.
        what: Name of the value, for errors.

    Raises:
        ValueError: There is something else in it.
    """
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise ValueError(f"Can't store {what} as JSON: a key in it is no string.")
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Can't store {what} as JSON: {error}. Use strings (dates: isoformat()), finite numbers, booleans, None, "
            "lists and dictionaries."
        ) from error


def _storable(text: str) -> str | bytes:
    """Keep text as it is where it is valid unicode; SQLite takes lone surrogates only as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(value: str | bytes | None) -> Any:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
