"""What a task is, and the deterministic batching that all tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor

from training.data.dataset import Passage, Question
from training.data.numbered import in_order, numbered, those
from training.errors import RecipeError, require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import DataSet

Features = dict[str, Any]
#: Tokens of the shortest text that says anything: one, between two special tokens.
SHORTEST = 3
#: Batches that are sorted by length together, so that little is padded.
BUCKET = 32
#: What a task learns from: questions, or passages alone.
Item = TypeVar("Item", Question, Passage)


@dataclass(frozen=True)
class TaskOptions:
    """Options that every task has.

    Args:
        weight: Weight of the task's loss where a step trains several tasks; see `sampling_rate` for where it trains
            one.
        sampling_rate: How often the task is drawn where a step trains one task (`alternating`), relative to the other
            tasks; its loss then has its `weight`. None to draw it by its weight, and take its loss as it is.
        batch_size: Questions, or passages, per batch.
        data: Folder or file that the task learns from, below the `--data` option, or a list of them; None for the
            recipe's `data`.
    """

    weight: float = 1.0
    sampling_rate: float | None = None
    batch_size: int = 32
    data: str | list[str] | None = None

    def __post_init__(self) -> None:
        require(self, "batch_size", self.batch_size >= 1, "at least 1")
        require(self, "data", self.data is None or bool(self.data), "a folder or file below --data")
        require(self, "weight", self.weight > 0, "above 0")
        require(self, "sampling_rate", self.sampling_rate is None or self.sampling_rate > 0, "above 0")

    @property
    def bucket(self) -> int:
        """Batches that are sorted by length together; see `shuffled_batches`."""
        return BUCKET


class Task(ABC, Generic[Item]):
    """One skill: it makes batches out of data and a loss out of a model and a batch.

    Batches are a pure function of (seed, batch number), so a resumed run sees exactly what it would have seen. A new
    task derives from `QuestionTask` or `PassageTask`, names its head, and says how items become features and features
    a loss.

    Data sets may be larger than memory: then items and passages are read from disk when they are asked for, and a task
    keeps numbers of them, never texts.

    Args:
        options: The task's options from the recipe.
        items: What it learns from.
        passages: Passages of the data set, by id.
        tokenizer: The encoder's tokenizer.
        seed: Seed of data order and sampling.
    """

    Options: ClassVar[type[TaskOptions]] = TaskOptions
    #: Head of the model that the loss asks for. A model that starts from a plain encoder gets it by itself.
    head: ClassVar[str]
    #: What errors say of a data set that holds nothing for the task.
    nothing_found: ClassVar[str]
    #: A model beside the trained one that the loss asks; see `load_teacher`.
    teacher: ROMModel | None = None

    def __init__(
        self,
        options: Any,
        items: Sequence[Item],
        passages: Mapping[str, Passage],
        tokenizer: PreTrainedTokenizerBase,
        seed: int,
    ) -> None:
        self.options = options
        self.items: Sequence[Item] = items
        self.passages = passages
        self.numbered = numbered(passages)
        self.tokenizer = tokenizer
        self.seed = seed
        self._lengths = np.fromiter((len(self.text_of(item)) for item in items), np.int32, len(items))
        self._epoch_batches = lru_cache(maxsize=2)(self._make_epoch_batches)

    def load_teacher(self, model: ROMModel) -> None:
        """Load the model that the task learns from, if it has one, to the trained one's device; nothing is written."""

    def prepare(self, model: ROMModel, folder: Path) -> None:
        """Compute, once before training, what the task needs from the untrained model; keep it in `folder`."""

    def batch(self, number: int) -> Features:
        """Return the features of batch `number` (0, 1, …, across epochs)."""
        rng = np.random.default_rng((self.seed, 1, number))
        return self.collate(self._items_of(number), rng)

    def ids(self, number: int) -> list[str]:
        """Return the ids of what batch `number` is made of."""
        return [item.id for item in self._items_of(number)]

    @classmethod
    @abstractmethod
    def items_of(cls, data: DataSet) -> Sequence[Item]:
        """Return what the task can learn from in a data set."""

    @abstractmethod
    def text_of(self, item: Item) -> str:
        """Return the text whose length is the item's, by which batches are sorted."""

    @property
    def batches_per_epoch(self) -> int:
        """Batches in which every item comes once."""
        size: int = self.options.batch_size
        return -(-len(self.items) // size)

    @abstractmethod
    def collate(self, items: Sequence[Item], rng: np.random.Generator) -> Features:
        """Turn items into model inputs and targets."""

    @abstractmethod
    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the batch's loss (a scalar) and metrics to log, on its device, as a look at them waits for it."""

    def _items_of(self, number: int) -> list[Item]:
        epoch, position = divmod(number, self.batches_per_epoch)
        return [self.items[i] for i in self._epoch_batches(epoch)[position]]

    def _make_epoch_batches(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng((self.seed, 0, epoch))
        return shuffled_batches(self._lengths, self.options.batch_size, rng, self.options.bucket)


class QuestionTask(Task[Question]):
    """A task that learns from questions with their passages."""

    nothing_found = "no question there has an answer"

    @classmethod
    def items_of(cls, data: DataSet) -> Sequence[Question]:
        """Return the questions that the task trains on."""
        return those(data.questions, cls.trains_on)

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Tell whether the task can learn from a question; by default from those with answers."""
        return bool(question.answers)

    def text_of(self, item: Question) -> str:
        """Return the gold passage's text."""
        return self.passages[item.passage_id].text


class PassageTask(Task[Passage]):
    """A task that learns from passages alone, self-supervised."""

    nothing_found = "no passage there holds text"

    @classmethod
    def items_of(cls, data: DataSet) -> Sequence[Passage]:
        """Return the passages that the task trains on."""
        return those(in_order(data.passages), cls.trains_on)

    @classmethod
    def trains_on(cls, passage: Passage) -> bool:
        """Tell whether the task can learn from a passage; by default from all but blank ones."""
        return bool(passage.text.strip())

    def text_of(self, item: Passage) -> str:
        """Return the passage's text."""
        return item.text


def require_mask_token(task: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a tokenizer's mask token.

    Raises:
        RecipeError: It has none, so that the task can't be trained.
    """
    if tokenizer.mask_token is None:
        raise RecipeError(
            f"Recipe key 'tasks.{task}' needs a mask token, and the tokenizer of this recipe's encoder has none; leave "
            "the task out, or choose another encoder."
        )
    return str(tokenizer.mask_token)


def shuffled_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator, bucket: int = BUCKET
) -> list[np.ndarray]:
    """Shuffle indices into batches, sorted by length within buckets, so that little is padded.

    Args:
        lengths: Length of each item, in any unit.
        batch_size: Items per batch; the last batch of a bucket may be smaller.
        rng: Source of the shuffle.
        bucket: Batches that are sorted by length together, out of as many items. With 1, each is drawn from all items.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * bucket):
        chunk = order[start : start + batch_size * bucket]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
