"""How good the answers are: answer recall of dense, keyword and hybrid search over real passages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from haystack import Document
from haystack.components.joiners import DocumentJoiner
from numpy.typing import NDArray

from benchmarks.exact import nearest
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.metrics import answer_tokens, has_answer
from training.data.jsonl import Passage, Question

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
        For `dense`, `keywords`, `hybrid` (reciprocal-rank fusion of the first 20 of both) and, for comparison,
        `dense_exact` (by NumPy), the percentage of questions with an answer in the first k passages, as `recall_at_k`,
        and the number of `questions`.
    """
    documents = [
        Document(id=passage.id, content=passage.text, embedding=vector.tolist())
        for passage, vector in zip(passages, vectors, strict=True)
    ]
    tokens = {passage.id: answer_tokens(passage.text) for passage in passages}
    joiner = DocumentJoiner(join_mode="reciprocal_rank_fusion")
    exact = nearest(vectors, queries, min(max(CUTOFFS), len(passages)))
    first_hits = defaultdict(list)
    with SQLiteFAISSDocumentStore(folder, vectors.shape[1]) as store:
        store.write_documents(documents)
        store.optimize()
        for number, question in enumerate(questions):
            dense = store.embedding_retrieval(queries[number].tolist(), top_k=max(CUTOFFS))
            keywords = store.bm25_retrieval(question.text, top_k=max(CUTOFFS))
            found = {
                "dense_exact": [passages[row].id for row in exact[number]],
                "dense": [document.id for document in dense],
                "keywords": [document.id for document in keywords],
                "hybrid": [document.id for document in joiner.run(documents=[dense, keywords])["documents"]],
            }
            for name, ids in found.items():
                hits = (rank for rank, id_ in enumerate(ids, start=1) if has_answer(tokens[id_], question.answers))
                first_hits[name].append(next(hits, math.inf))
    return {
        name: {f"recall_at_{k}": 100 * float(np.mean(np.array(hits) <= k)) for k in CUTOFFS} | {"questions": len(hits)}
        for name, hits in first_hits.items()
    }
