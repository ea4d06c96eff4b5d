"""Synthetic workloads of any size: clustered unit vectors, and texts of sentences put together anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Documents per block; each block has a random generator of its own, so that blocks do not depend on one another.
_BLOCK = 10_000
_LETTERS = 450  # a text grows until it has as many; with its last sentence it comes to about 500
_WORDS = 30_000

#: Shares of the variance, as real embeddings of a sentence encoder have them: between topics, between the clusters of
#: a topic, and (the rest) between the documents of a cluster; and of a query, what it has not in common with its
#: document.
_TOPIC_SHARE, _CLUSTER_SHARE, _QUERY_SHARE = 0.2, 0.35, 0.5


class ClusteredVectors:
    """Unit vectors in clusters of uneven size, the clusters in topics, with the uneven spectrum of real embeddings.

    There are sqrt(size) topics and 16 sqrt(size) clusters, whose sizes are log-normal, so a larger collection has more
    clusters and fuller ones. All randomness has the covariance of a spectrum that falls like i^-0.45 exp(-i/115),
    turned at random: as in real embeddings, about 90 directions matter, and none of them is a coordinate. A query is a
    document's vector with half of its variance drawn anew.

    Args:
        size: Number of documents.
        dim: Width of the vectors.
        seed: The same seed, size and width give the same vectors.
    """

    def __init__(self, size: int, dim: int, seed: int) -> None:
        self.size, self.dim, self.seed = size, dim, seed
        rng = np.random.default_rng([seed, 0])
        topics = math.isqrt(size) or 1
        clusters = 16 * topics
        order = np.arange(1, dim + 1)
        spectrum = order**-0.45 * np.exp(-order / 115)
        rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
        self._basis = (np.sqrt(spectrum)[:, None] * rotation).astype(np.float32)
        topic = rng.standard_normal((topics, dim), dtype=np.float32)[rng.integers(topics, size=clusters)]
        own = rng.standard_normal((clusters, dim), dtype=np.float32)
        self._centres = math.sqrt(_TOPIC_SHARE) * topic + math.sqrt(_CLUSTER_SHARE) * own
        shares = rng.lognormal(size=clusters)
        self._shares = shares / shares.sum()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Make the documents' vectors, `[rows, dim]`, block by block."""
        for start in range(0, self.size, _BLOCK):
            yield self._unit(self._latent(start))

    def queries(self, count: int) -> NDArray[np.float32]:
        """Make `[count, dim]` queries, each near a document drawn at random."""
        rng = np.random.default_rng([self.seed, 4])
        rows = rng.integers(self.size, size=count)
        latent = np.empty((count, self.dim), dtype=np.float32)
        for start in np.unique(rows - rows % _BLOCK).tolist():
            here = (rows >= start) & (rows < start + _BLOCK)
            latent[here] = self._latent(start)[rows[here] - start]
        noise = rng.standard_normal(latent.shape, dtype=np.float32)
        return self._unit(math.sqrt(1 - _QUERY_SHARE) * latent + math.sqrt(_QUERY_SHARE) * noise)

    def _latent(self, start: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, 5, start])
        rows = min(_BLOCK, self.size - start)
        centres = self._centres[rng.choice(len(self._centres), size=rows, p=self._shares)]
        own = math.sqrt(1 - _TOPIC_SHARE - _CLUSTER_SHARE) * rng.standard_normal((rows, self.dim), dtype=np.float32)
        return np.asarray(centres + own, dtype=np.float32)

    def _unit(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = latent @ self._basis
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def texts(sentences: Sequence[str], count: int, seed: int) -> Iterator[str]:
    """Put sentences together at random to texts of about 500 letters."""
    for start in range(0, count, _BLOCK):
        rng = np.random.default_rng([seed, 1, start])
        drawn = iter(rng.integers(len(sentences), size=_LETTERS * min(_BLOCK, count - start)).tolist())
        for _ in range(min(_BLOCK, count - start)):
            text = ""
            while len(text) < _LETTERS:
                text += f" {sentences[next(drawn)][:300]}"
            yield text[1:]


def invented_sentences(count: int, seed: int) -> list[str]:
    """Make sentences of invented words whose frequencies follow Zipf's law, for where no real texts are at hand."""
    rng = np.random.default_rng([seed, 2])
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(rng.choice(syllables, size=length)) for length in rng.integers(1, 5, size=_WORDS)]
    frequencies = 1 / (np.arange(_WORDS) + 2.7)
    lengths = rng.integers(6, 22, size=count)
    drawn = iter(rng.choice(_WORDS, size=int(lengths.sum()), p=frequencies / frequencies.sum()).tolist())
    return [" ".join(words[next(drawn)] for _ in range(length)).capitalize() + "." for length in lengths]


def invented_questions(sentences: Sequence[str], count: int, seed: int) -> list[str]:
    """Ask with about ten words from one sentence each."""
    drawn = np.random.default_rng([seed, 3]).integers(len(sentences), size=count)
    return [" ".join(sentences[i].rstrip(".").lower().split()[:10]) + "?" for i in drawn]
