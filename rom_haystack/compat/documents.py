"""Documents and answers in the shape that they had in Haystack 1.x."""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import haystack
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rom_haystack.files import MIME_TYPES, readable_stem

_ATTRIBUTES = ("content", "content_type", "id", "score", "meta", "embedding")
_HASHABLE = ("content", "content_type", "score", "meta", "embedding")


class Document:
    """A passage, as Haystack 1.x had it: mutable, with its embedding as an array.

    Args:
        content: The text.
        content_type: Must be `text`.
        id: Its name in the store; None for a hash. 1.x hashed differently: give the ids of documents that other data
            refer to.
        score: Relevance, where a search found the document.
        meta: Further fields; `name`, or else `title`, is the title.
        embedding: The vector.
        id_hash_keys: Names of the attributes that a made id depends on. None for the content alone.

    Raises:
        ValueError: There is no content, it is no text, or an attribute can't be hashed.
    """

    def __init__(
        self,
        content: str,
        content_type: str = "text",
        id: str | None = None,  # noqa: A002 (1.x's name)
        score: float | None = None,
        meta: dict[str, Any] | None = None,
        embedding: ArrayLike | None = None,
        id_hash_keys: Sequence[str] | None = None,
    ) -> None:
        if content is None:
            raise ValueError("A Document needs content; None is given.")
        if content_type != "text" or not isinstance(content, str):
            raise ValueError(
                f"content_type is {content_type!r} and content is a {type(content).__name__}; only text is read here. "
                "Write tables and other things out as text."
            )
        self.content = content
        self.content_type = content_type
        self.score = score
        self.meta: dict[str, Any] = meta or {}
        self.embedding: NDArray[Any] | None = None if embedding is None else np.asarray(embedding)
        self.id = self._hash(id_hash_keys or ["content"]) if id is None else str(id)

    def _hash(self, names: Sequence[str]) -> str:
        if unknown := [name for name in names if name not in _HASHABLE]:
            raise ValueError(f"id_hash_keys has {unknown[0]!r}; an id can depend on {', '.join(_HASHABLE)}.")
        text = ":".join(str(getattr(self, name)) for name in names)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return {name: getattr(self, name) for name in _ATTRIBUTES}

    @classmethod
    def from_dict(
        cls,
        dict: dict[str, Any],  # noqa: A002 (1.x's name)
        field_map: dict[str, str] | None = None,
        id_hash_keys: Sequence[str] | None = None,
    ) -> Self:
        """Make a document of a dictionary, whose unknown keys become metadata.

        Args:
            dict: `content`, and whatever else there is. It stays as it is.
            field_map: From keys of the dictionary to attributes, such as `{"text": "content"}`.
            id_hash_keys: As for a new document.

        Raises:
            ValueError: There is no content.
        """
        given: Any = {(field_map or {}).get(key, key): deepcopy(value) for key, value in dict.items()}
        if "content" not in given:
            raise ValueError(
                f"There is no 'content' among the keys of a document ({', '.join(map(str, given)) or 'none'}). Before "
                "Haystack 1.0 its name was 'text': rename it."
            )
        extra = {key: value for key, value in given.items() if key not in _ATTRIBUTES}
        known = {key: value for key, value in given.items() if key in _ATTRIBUTES}
        return cls(**{**known, "meta": {**(known.get("meta") or {}), **extra}}, id_hash_keys=id_hash_keys)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        same = all(getattr(self, n) == getattr(other, n) for n in _ATTRIBUTES if n != "embedding")
        if self.embedding is None or other.embedding is None:
            return same and self.embedding is other.embedding
        return same and np.array_equal(self.embedding, other.embedding)

    # It can be changed, so it has no hash.
    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Self) -> bool:
        return _order(self.score) < _order(other.score)

    def __repr__(self) -> str:
        return f"<Document: {self.to_dict()}>"

    def __str__(self) -> str:
        more = " ..." if len(self.content) > 100 else ""
        return f"<Document: id={self.id}, content='{self.content[:100]}{more}'>"


@dataclass
class Span:
    """Where something stands: its first character, and the one after its last."""

    start: int
    end: int


@dataclass
class Answer:
    """An answer, as Haystack 1.x had it.

    Attributes:
        answer: The quote; empty for "there is no answer here".
        type: Always `extractive`.
        score: Confidence from 0 to 1, or the raw score.
        context: The text around the quote.
        offsets_in_document: One span: the quote's place in the document.
        offsets_in_context: One span: its place in the context.
        document_ids: The document's id, in a list; None for "there is no answer here".
        meta: The document's metadata.
    """

    answer: str
    type: str = "extractive"
    score: float | None = None
    context: str | None = None
    offsets_in_document: list[Span] | None = None
    offsets_in_context: list[Span] | None = None
    document_ids: list[str] | None = None
    meta: dict[str, Any] | None = None

    @property
    def document_id(self) -> str | None:
        """The document's id, as an attribute of its own, which it was until Haystack 1.15."""
        return self.document_ids[0] if self.document_ids else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, dict: dict[str, Any]) -> Self:  # noqa: A002 (1.x's name)
        """Make an answer of what `to_dict` returned."""
        spans: Any = {
            name: [Span(**span) for span in dict[name]]
            for name in ("offsets_in_document", "offsets_in_context")
            if dict.get(name) is not None
        }
        return cls(**{**dict, **spans})

    def __lt__(self, other: Self) -> bool:
        return _order(self.score) < _order(other.score)

    def __str__(self) -> str:
        return f"<Answer: answer='{self.answer}', score={self.score}, context='{(self.context or '')[:50]}'>"


def title_of(meta: dict[str, Any]) -> str | None:
    """Find a document's title: `name`, which is 1.x's place for it, or else `title`.

    A file's name is made readable (`marie-curie.txt` becomes `marie curie`).
    """
    title = next((str(meta[key]) for key in ("name", "title") if meta.get(key) is not None), None)
    return readable_stem(title) if title and Path(title).suffix.lower() in MIME_TYPES else title


def to_haystack(document: Document) -> haystack.Document:
    """Turn a document of 1.x's shape into today's."""
    embedding = None if document.embedding is None else [float(value) for value in document.embedding]
    meta = deepcopy(document.meta)
    return haystack.Document(id=document.id, content=document.content, meta=meta, embedding=embedding)


def from_haystack(document: haystack.Document) -> Document:
    """Turn a document of today into one of 1.x's shape."""
    embedding = None if document.embedding is None else np.asarray(document.embedding, dtype=np.float32)
    return Document(
        document.content or "", id=document.id, score=document.score, meta=deepcopy(document.meta), embedding=embedding
    )


def as_documents(documents: Sequence[Document | dict[str, Any]]) -> list[Document]:
    """Make documents of dictionaries, and keep those that are documents already.

    Raises:
        TypeError: There is something else among them, or they are no list.
    """
    if isinstance(documents, str | bytes | dict | Document):
        raise TypeError(f"Documents must come as a list, found a single {type(documents).__name__}: wrap it in one.")
    found = []
    for document in documents:
        if not isinstance(document, Document | dict):
            raise TypeError(
                f"A {type(document).__name__} is no document of rom_haystack.compat; give its Document, or a "
                "dictionary with 'content' and 'meta'."
            )
        found.append(Document.from_dict(document) if isinstance(document, dict) else document)
    return found


def _order(score: float | None) -> float:
    return float("-inf") if score is None else score
