"""How good the answers are: answer recall of dense, keyword and hybrid search over real passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from haystack import Document
from numpy.typing import NDArray

from benchmarks.exact import nearest
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.fusion import first_rank
from rom_haystack.hybrid import CANDIDATES, fuse_documents
from rom_haystack.metrics import answer_tokens, has_answer
from training.data.dataset import Passage, Question

CUTOFFS = (1, 5, 20)


def answer_recall(
    folder: Path,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
    questions: Sequence[Question],
    queries: NDArray[np.float32],
) -> dict[str, dict[str, float]]:
    """Write passages to a store of their own and search it for answers.

    Args:
        folder: Where the store is made; empty or missing.
        passages: Passages, whose texts are searched, without titles.
        vectors: Their embeddings, `[len(passages), dim]`.
        questions: Questions with their answers.
        queries: Their embeddings, `[len(questions), dim]`.

    Returns:
        For each of `searches` and, for comparison, `dense_exact` (by NumPy), the percentage of questions with an answer
        in the first k passages, as `recall_at_k`, and the number of `questions`.
    """
    exact = nearest(vectors, queries, min(max(CUTOFFS), len(passages)))
    found: dict[str, list[list[str]]] = {"dense_exact": [[passages[row].text for row in rows] for rows in exact]}
    for searched in searches(folder, passages, vectors, questions, queries):
        for name, documents in searched.items():
            found.setdefault(name, []).append([document.content or "" for document in documents])
    return {name: recall_figures(first_hits(texts, questions)) for name, texts in found.items()}


def searches(
    folder: Path,
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
    questions: Sequence[Question],
    queries: NDArray[np.float32],
) -> Iterator[Mapping[str, list[Document]]]:
    """Write passages to a store of their own, and search it for each question; see `answer_recall`.

    Yields:
        The first passages of `dense`, `keywords` and `hybrid`: both, as `ROMHybridRetriever` fuses them by default.
    """
    documents = [
        Document(id=passage.id, content=passage.text, embedding=vector.tolist())
        for passage, vector in zip(passages, vectors, strict=True)
    ]
    with SQLiteFAISSDocumentStore(folder, vectors.shape[1]) as store:
        store.write_documents(documents)
        store.optimize()
        for number, question in enumerate(questions):
            dense = store.embedding_retrieval(queries[number].tolist(), top_k=CANDIDATES)
            keywords = store.bm25_retrieval(question.text, top_k=CANDIDATES)
            hybrid = fuse_documents(keywords, dense, "z_score", None)
            found = {"dense": dense, "keywords": keywords, "hybrid": hybrid}
            yield {name: documents[: max(CUTOFFS)] for name, documents in found.items()}


def first_hits(found: Sequence[Sequence[str]], questions: Sequence[Question]) -> NDArray[np.float64]:
    """Find for each question the rank, from 1, of the first text with an answer; infinity where none has one."""
    tokens = {text: answer_tokens(text) for texts in found for text in texts}
    hits = [
        first_rank(texts, {text for text in texts if has_answer(tokens[text], question.answers)})
        for texts, question in zip(found, questions, strict=True)
    ]
    return np.array(hits)


def recall_figures(hits: NDArray[np.float64]) -> dict[str, float]:
    """Sum up first hits: `recall_at_k` in percent, and the number of `questions`."""
    return {f"recall_at_{k}": 100 * float(np.mean(hits <= k)) for k in CUTOFFS} | {"questions": len(hits)}
