"""Real passages and questions from a data folder as `training` reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.dataset import Passage, Question
from training.data.jsonl import read_passages, read_questions

#: Sets whose passages make the collection of real texts.
COLLECTION = (
    "squad/train",
    "squad/dev",
    "corpus/wiki_passages",
    "corpus/factbook",
    "nq/train",
    "medquad/pairs",
)
#: The part of it on which answer recall is measured, and the questions to it.
QUALITY_COLLECTION = ("squad/train", "squad/dev")
QUESTIONS = "squad/dev"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def passages_of(data: Path, names: Sequence[str]) -> dict[str, list[Passage]]:
    """Read the passages of several sets, by set; one that an earlier set has is left out.

    Raises:
        DataError: A set is missing or damaged.
    """
    seen: set[str] = set()
    found: dict[str, list[Passage]] = {}
    for name in names:
        new = [passage for id_, passage in read_passages(data / name).items() if id_ not in seen]
        seen.update(passage.id for passage in new)
        found[name] = new
    return found


def answerable_questions(data: Path, limit: int, seed: int) -> list[Question]:
    """Draw questions that have an answer, in file order; all of them where there are no more than `limit`.

    Raises:
        DataError: The questions are missing or damaged.
    """
    questions = _answerable(data)
    if len(questions) <= limit:
        return questions
    drawn = np.random.default_rng(seed).choice(len(questions), limit, replace=False)
    return [questions[i] for i in sorted(drawn.tolist())]


def shuffled_questions(data: Path, seed: int) -> list[Question]:
    """Read all questions that have an answer, in an order drawn by `seed`, so that any part of them is a fair draw.

    Raises:
        DataError: The questions are missing or damaged.
    """
    questions = _answerable(data)
    return [questions[i] for i in np.random.default_rng(seed).permutation(len(questions))]


def sentences_of(data: Path) -> list[str]:
    """Cut the collection's passages into sentences, for texts that are made of them anew."""
    texts = (passage.text for passages in passages_of(data, COLLECTION).values() for passage in passages)
    return [sentence for text in texts for sentence in _SENTENCE_END.split(text) if len(sentence) > 20]


def _answerable(data: Path) -> list[Question]:
    return [question for question in read_questions(data / QUESTIONS) if question.answers]
