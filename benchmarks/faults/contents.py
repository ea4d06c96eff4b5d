"""What a store must hold: documents as a function of seed, number and revision, so that nobody has to keep them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream

#: Wide enough for `auto` to choose four-bit product codes, as it does for real embeddings.
DIM = 128
GROUPS = 10
#: Words that many documents have, so that their scores are packed.
WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "juniper")
_WITHOUT_EMBEDDING, _WITHOUT_CONTENT, _WITH_BLOB = 0.05, 0.03, 0.03


class Version(NamedTuple):
    """What a document must be like.

    Attributes:
        revision: Chooses everything but the mark.
        mark: Metadata field that `update_by_filter` has set; None where it has not.
    """

    revision: int
    mark: str | None = None


#: Numbers of the documents that are there.
Contents = Mapping[int, Version]


def name_of(number: int) -> str:
    """Name the id of a document."""
    return f"document-{number}"


def number_of(name: str) -> int:
    """Turn the id of a document back into its number."""
    return int(name.removeprefix("document-"))


def group_of(number: int, revision: int) -> int:
    """Return the metadata field by which documents are filtered."""
    return (number + revision) % GROUPS


def unique_word(number: int, revision: int) -> str:
    """Return a word that no other document has, and no other revision."""
    return f"n{number}r{revision}"


@lru_cache(maxsize=16_384)
def _drawn(seed: int, number: int, revision: int) -> Document:
    rng = np.random.default_rng([seed, number, revision])
    bare, silent, attached = rng.random(3) < (_WITHOUT_EMBEDDING, _WITHOUT_CONTENT, _WITH_BLOB)
    words = rng.choice(WORDS, 12).tolist()
    return Document(
        id=name_of(number),
        content=None if silent else " ".join([unique_word(number, revision), *words]),
        blob=ByteStream(rng.bytes(40), mime_type="image/png") if attached else None,
        meta={"group": group_of(number, revision), "revision": revision, "nested": {"half": number / 2}},
        embedding=None if bare else (3 * rng.standard_normal(DIM)).tolist(),
    )


def document(seed: int, number: int, version: Version) -> Document:
    """Make a document as it must be in the store."""
    drawn = _drawn(seed, number, version.revision)
    return Document(
        id=drawn.id,
        content=drawn.content,
        blob=drawn.blob,
        meta=drawn.meta if version.mark is None else {**drawn.meta, "mark": version.mark},
        embedding=drawn.embedding,
    )
