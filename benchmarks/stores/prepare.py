"""Make the workloads: synthetic ones of any size, and the real passages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.passages import COLLECTION, QUESTIONS, answerable_questions, passages_of, sentences_of
from benchmarks.stores import synthetic
from benchmarks.stores.workload import Workload, is_written, write_workload
from training.data.dataset import Passage, Question

_INVENTED = 200_000  # sentences


@dataclass(frozen=True)
class Texts:
    """What texts and questions are made of.

    Args:
        source: `passages` or `invented`, for the workload's description.
        sentences: Sentences to put together.
        questions: Questions to search with.
    """

    source: str
    sentences: list[str]
    questions: list[str]


@dataclass(frozen=True)
class RealWorkload:
    """The real passages as a workload, and what belongs to its rows and its queries.

    Args:
        workload: Texts, embeddings, queries, questions.
        passages: The passage of each row.
        sets: The set that the passage of each row is from.
        questions: The question of each query.
    """

    workload: Workload
    passages: list[Passage]
    sets: list[str]
    questions: list[Question]


def load_texts(data: Path | None, count: int, seed: int) -> Texts:
    """Take sentences and questions from the data folder; invent them where there is none.

    Args:
        data: Folder of the data sets.
        count: Number of questions.
        seed: Seed of what is drawn or invented.

    Raises:
        DataError: A data set is missing or damaged.
    """
    if data is None:
        sentences = synthetic.invented_sentences(_INVENTED, seed)
        return Texts("invented", sentences, synthetic.invented_questions(sentences, count, seed))
    questions = [question.text for question in answerable_questions(data, count, seed)]
    return Texts("passages", sentences_of(data), questions)


def synthetic_workload(folder: Path, size: int, dim: int, texts: Texts, queries: int, seed: int) -> Workload:
    """Make a synthetic workload, or take the one that an earlier run left in the folder."""
    description = {"size": size, "dim": dim, "texts": texts.source, "queries": queries, "seed": seed}
    if is_written(folder, description):
        return Workload(folder)
    vectors = synthetic.ClusteredVectors(size, dim, seed)
    return write_workload(
        folder,
        description,
        synthetic.texts(texts.sentences, size, seed),
        vectors.blocks(),
        vectors.queries(queries),
        texts.questions,
    )


def real_workload(folder: Path, data: Path, cache: Path, queries: int, seed: int) -> RealWorkload:
    """Embed the real passages and draw questions to them.

    Raises:
        DataError: A data set is missing or damaged.
        CheckpointError: The bundled checkpoint can't be loaded.
    """
    from benchmarks.embeddings import embed  # noqa: PLC0415 (torch takes seconds to import)

    by_set = passages_of(data, COLLECTION)
    vectors = [embed(name, [passage.text for passage in found], "passages", cache) for name, found in by_set.items()]
    questions = answerable_questions(data, queries, seed)
    texts = [question.text for question in questions]
    passages = [passage for found in by_set.values() for passage in found]
    description = {"size": len(passages), "dim": vectors[0].shape[1], "texts": "real", "queries": queries, "seed": seed}
    workload = write_workload(
        folder,
        description,
        (passage.text for passage in passages),
        [block / np.linalg.norm(block, axis=1, keepdims=True) for block in vectors],
        embed(QUESTIONS, texts, "questions", cache),
        texts,
    )
    sets = [name for name, found in by_set.items() for _ in found]
    return RealWorkload(workload, passages, sets, questions)
