"""Rank a collection's passages for queries: by embeddings, by keywords, and by both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import bm25s
import numpy as np
import Stemmer
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from rom_haystack.fusion import Found, fuse
from rom_haystack.inference import ROMEncoder
from rom_haystack.modeling import CheckpointError, ROMModel

Rows = NDArray[np.int64]


class Ranker(Protocol):
    """Anything that ranks the collection's passages for queries."""

    def rank(self, queries: Sequence[str], count: int) -> Rows:
        """Return `[len(queries), count]` row numbers of passages, best first."""
        ...


class ScoringRanker(Ranker, Protocol):
    """A ranker that gives scores, too, so that it can be fused with others."""

    def search(self, queries: Sequence[str], count: int) -> tuple[Rows, NDArray[np.float32]]:
        """Return what `rank` does, and the scores of these passages, both `[len(queries), count]`."""
        ...


class DenseRanker:
    """Exact search by inner product over the passages' embeddings.

    Args:
        encoder: Embeds the passages, in at most 256 tokens.
        texts: The passages.
        progress: Show how far it is.
        query_encoder: Embeds the queries, in at most 64 tokens; None for `encoder`.
    """

    def __init__(
        self,
        encoder: ROMEncoder,
        texts: Sequence[str],
        *,
        progress: bool = True,
        query_encoder: ROMEncoder | None = None,
    ) -> None:
        self.query_encoder = query_encoder or encoder
        length = min(256, encoder.max_length)
        self.embeddings = encoder.encode_passages(texts, max_length=length, progress=progress)

    def rank(self, queries: Sequence[str], count: int) -> Rows:
        """Rank by inner product of the embeddings."""
        return self.search(queries, count)[0]

    def search(self, queries: Sequence[str], count: int) -> tuple[Rows, NDArray[np.float32]]:
        """Rank by inner product of the embeddings, and return them, too."""
        scores = self.scores(queries)
        rows = best_rows(scores, count)
        return rows, np.take_along_axis(scores, rows, axis=1)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return `[len(queries), passages]`, the inner products."""
        length = min(64, self.query_encoder.max_length)
        embedded = self.query_encoder.encode_queries(queries, max_length=length)
        products: NDArray[np.float32] = embedded @ self.embeddings.T
        return products


class BM25Ranker:
    """BM25 (k1 1.5, b 0.75) over stemmed words without English stop words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.stemmer = Stemmer.Stemmer("english")
        self.index = bm25s.BM25(k1=1.5, b=0.75)
        self.index.index(self._tokens(texts), show_progress=False)

    def rank(self, queries: Sequence[str], count: int) -> Rows:
        """Rank by BM25 score."""
        return self.search(queries, count)[0]

    def search(self, queries: Sequence[str], count: int) -> tuple[Rows, NDArray[np.float32]]:
        """Rank by BM25 score; passages that share no word with the query have the score 0."""
        rows, scores = self.index.retrieve(self._tokens(queries), k=count, show_progress=False)
        return np.asarray(rows, dtype=np.int64), np.asarray(scores, dtype=np.float32)

    def _tokens(self, texts: Sequence[str]) -> Any:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=self.stemmer, show_progress=False)


class HybridRanker:
    """Keyword and dense search, fused as `ROMHybridRetriever` fuses them by default: z-scores, equal weights.

    Each search contributes as many passages as are ranked, at least 50.

    Args:
        keyword: The keyword search; passages of score 0 were not found.
        dense: The dense search.
        passage_count: Passages in the collection.
    """

    candidates = 50

    def __init__(self, keyword: ScoringRanker, dense: ScoringRanker, passage_count: int) -> None:
        self.keyword = keyword
        self.dense = dense
        self.passage_count = passage_count

    def rank(self, queries: Sequence[str], count: int) -> Rows:
        """Rank by the sum of z-scores."""
        depth = min(max(count, self.candidates), self.passage_count)
        keyword, dense = (ranker.search(queries, depth) for ranker in (self.keyword, self.dense))
        ranking = np.empty((len(queries), count), dtype=np.int64)
        for row in range(len(queries)):
            by_words = [pair for pair in _found(keyword, row) if pair[1]]
            fused = fuse([by_words, _found(dense, row)], "z_score")
            ranking[row] = [int(name) for name in fused][:count]
        return ranking


def best_rows(scores: NDArray[np.float32], count: int) -> Rows:
    """Return `[queries, count]` row numbers of the best passages out of scores (`[queries, passages]`), best first."""
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1).astype(np.int64)


def load_base(name_or_path: str, dtype: str) -> ROMEncoder:
    """Load a plain encoder as a retriever: mean pooling, unit length, no training.

    Raises:
        CheckpointError: It can't be loaded.
    """
    try:
        model = ROMModel.from_encoder(name_or_path, {"retrieval": {"pooling": "mean"}})
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The base encoder '{name_or_path}' can't be loaded: {error}") from error
    model.to(device=best_device(), dtype=getattr(torch, dtype))
    return ROMEncoder.from_model(model.eval(), AutoTokenizer.from_pretrained(name_or_path))


def best_device() -> str:
    """Return the device that evaluation runs on: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _found(searched: tuple[Rows, NDArray[np.float32]], row: int) -> Found:
    rows, scores = searched
    return [(str(name), float(score)) for name, score in zip(rows[row], scores[row], strict=True)]
