"""What a task is, and the deterministic batching that all tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage, Question

Features = dict[str, Any]


@dataclass(frozen=True)
class TaskOptions:
    """Options that every task has.

    Args:
        weight: Weight of the task's loss (`joint`) or its sampling weight (`alternating`).
        batch_size: Questions per batch.
    """

    weight: float = 1.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise RecipeError(f"A task's 'batch_size' is {self.batch_size}; it must be at least 1.")
        if not self.weight > 0:
            raise RecipeError(f"A task's 'weight' is {self.weight}; it must be above 0.")


class Task(ABC):
    """One skill: it makes batches out of data and a loss out of a model and a batch.

    Batches are a pure function of (seed, batch number), so a resumed run sees exactly what it would have seen.

    Args:
        options: The task's options from the recipe.
        questions: Training questions.
        passages: Passages by id.
        tokenizer: The encoder's tokenizer.
        seed: Seed of data order and sampling.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(
        self,
        options: Any,
        questions: Sequence[Question],
        passages: Mapping[str, Passage],
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
    ) -> None:
        self.options = options
        self.questions = questions
        self.passages = passages
        self.tokenizer = tokenizer
        self.seed = seed
        self._lengths = np.array([len(passages[q.passage_id].text) for q in questions])
        self._epoch_batches = lru_cache(maxsize=2)(self._make_epoch_batches)

    def prepare(self, model: ROMModel, folder: Path) -> None:  # noqa: B027 (most tasks need nothing)
        """Compute, once before training, what the task needs from the untrained model; keep it in `folder`."""

    def batch(self, number: int) -> Features:
        """Return the features of batch `number` (0, 1, …, across epochs)."""
        rng = np.random.default_rng((self.seed, 1, number))
        return self.collate(self._questions_of(number), rng)

    def ids(self, number: int) -> list[str]:
        """Return the ids of what batch `number` is made of."""
        return [question.id for question in self._questions_of(number)]

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Tell whether the task can learn from a question; by default from those with answers."""
        return bool(question.answers)

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every question comes once."""
        size: int = self.options.batch_size
        return -(-len(self.questions) // size)

    @abstractmethod
    def collate(self, questions: Sequence[Question], rng: np.random.Generator) -> Features:
        """Turn questions into model inputs and targets."""

    @abstractmethod
    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, float]]:
        """Return the batch's loss (a scalar) and metrics to log."""

    def _questions_of(self, number: int) -> list[Question]:
        epoch, position = divmod(number, self.batches_per_epoch)
        return [self.questions[i] for i in self._epoch_batches(epoch)[position]]

    def _make_epoch_batches(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((self.seed, 0, epoch))
        return shuffled_batches(self._lengths, self.options.batch_size, rng)


def shuffled_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator, bucket: int = 32
) -> list[np.ndarray]:
    """Shuffle indices into batches of similar length, so that little is padded.

    Args:
        lengths: Length of each item, in any unit.
        batch_size: Items per batch; the last batch of a bucket may be smaller.
        rng: Source of the shuffle.
        bucket: Batches that are sorted by length together.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * bucket):
        chunk = order[start : start + batch_size * bucket]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
