"""Embedding documents: how fast beside the stock embedder, and how true to the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.answering.process import Worker, workers
from benchmarks.answering.systems import REFERENCE, SYSTEMS, Job
from benchmarks.answering.turns import Turns
from benchmarks.exact import nearest
from rom_haystack.metrics import answer_tokens, has_answer
from training.data.dataset import Passage, Question

#: Texts that an embedder is given at a time. It sorts them by length before it batches them, and the more the better.
CHUNK = 250
#: Texts embedded before anything is counted.
WARM_UP = 64
#: What the stock embedder is measured with, besides its default.
STOCK_BATCH_SIZES = (8, 16, 64, 128)
_RECALL_AT = 20


@dataclass(frozen=True)
class _Way:
    """One thing to measure: a system with a batch size (None for its default)."""

    system: str
    batch_size: int | None


def embed_in_turn(
    jobs: Mapping[str, Job],
    texts: Sequence[str],
    turns: Turns,
    *,
    batch_sizes: Sequence[int] = STOCK_BATCH_SIZES,
    chunk: int = CHUNK,
) -> dict[str, dict[str, Any]]:
    """Have every system embed the same texts, chunk by chunk, each time in another order.

    Args:
        jobs: The systems, by name; all but ROM's are also measured with other batch sizes.
        texts: Texts, the first 64 of which are for warming up only.
        turns: In which order.
        batch_sizes: Those other batch sizes.
        chunk: Texts per chunk.

    Returns:
        By system: `documents_per_s`; of the stock ones also `best_documents_per_s`, by the best of the batch sizes,
        `best_batch_size`, and `by_batch_size`.

    Raises:
        JobError: A system failed.
    """
    ways = [_Way(name, None) for name in jobs]
    ways += [_Way(name, size) for name in jobs if SYSTEMS[name].family != "rom" for size in batch_sizes]
    seconds: dict[_Way, float] = defaultdict(float)
    with workers(jobs) as processes:
        for way in ways:
            _embed(processes[way.system], way, texts[:WARM_UP])
        counted = texts[WARM_UP:]
        for start in range(0, len(counted), chunk):
            for way in turns.order(ways):
                seconds[way] += _embed(processes[way.system], way, counted[start : start + chunk])
    pace = {way: len(counted) / taken for way, taken in seconds.items()}
    return {name: _figures(name, pace) for name in jobs}


def embedding_quality(
    jobs: Mapping[str, Job],
    passages: Sequence[Passage],
    vectors: NDArray[np.float32],
    questions: Sequence[Question],
    work: Path,
) -> dict[str, dict[str, float]]:
    """Have every system embed the whole collection and the questions, and search exactly.

    Args:
        jobs: ROM's systems, by name, the reference not needed.
        passages: The collection.
        vectors: The reference's embeddings of it.
        questions: Questions to it.
        work: Folder for embeddings.

    Returns:
        By system: `cosine_mean` and `cosine_min` against the reference over the passages; `recall_at_20`, the
        percentage of questions with an answer in the first 20 passages, and `recall_at_20_change` from the reference.

    Raises:
        JobError: A system failed.
    """
    texts = [passage.text for passage in passages]
    tokens = [answer_tokens(text) for text in texts]
    embedded: dict[str, NDArray[np.float32]] = {}
    hits: dict[str, float] = {}
    for name, job in jobs.items():
        with Worker(job) as process:
            found = vectors if name == REFERENCE else _embed_all(process, texts, work)
            queries = _embed_questions(process, questions, work)
        rows = nearest(found, queries, min(_RECALL_AT, len(texts)))
        answered = [
            any(has_answer(tokens[row], question.answers) for row in rows[number])
            for number, question in enumerate(questions)
        ]
        embedded[name], hits[name] = found, 100 * float(np.mean(answered))
    figures = {}
    for name, found in embedded.items():
        cosines = _cosines(vectors, found)
        figures[name] = {
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            "recall_at_20": hits[name],
        }
        if REFERENCE in hits:
            figures[name]["recall_at_20_change"] = hits[name] - hits[REFERENCE]
    return figures


def _embed(process: Worker, way: _Way, texts: Sequence[str]) -> float:
    return float(process.request("embed", texts=list(texts), batch_size=way.batch_size)["seconds"])


def _figures(name: str, pace: Mapping[_Way, float]) -> dict[str, Any]:
    default = pace[_Way(name, None)]
    sizes = {way.batch_size: value for way, value in pace.items() if way.system == name and way.batch_size}
    if not sizes:
        return {"documents_per_s": default}
    best = max(sizes, key=lambda size: sizes[size])
    return {
        "documents_per_s": default,
        "best_documents_per_s": max(default, sizes[best]),
        "best_batch_size": best if sizes[best] > default else "default",
        "by_batch_size": {str(size): value for size, value in sizes.items()},
    }


def _embed_all(process: Worker, texts: Sequence[str], work: Path) -> NDArray[np.float32]:
    file = work / "embeddings.npy"
    process.request("embed", texts=list(texts), file=str(file))
    return np.asarray(np.load(file), dtype=np.float32)


def _embed_questions(process: Worker, questions: Sequence[Question], work: Path) -> NDArray[np.float32]:
    file = work / "questions.npy"
    process.request("embed_questions", questions=[question.text for question in questions], file=str(file))
    return np.asarray(np.load(file), dtype=np.float32)


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    cosines: NDArray[np.float32] = (one * other).sum(axis=1)
    cosines /= np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return cosines
