"""Extractive reading: find the answer span in a query-passage pair, or point at the null position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from training.tasks.base import Features, QuestionTask, by_title
from training.tasks.pairs import PairOptions, pair_features, pair_loss, text_without

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Question


@dataclass(frozen=True)
class ReadingTaskOptions(PairOptions):
    """Options of `ReadingTask`: those of pairs."""


class ReadingTask(QuestionTask):
    """Train the `reading` head.

    The span loss is the negative log-likelihood of all occurrences of the answer in the window together, since
    distant offsets may name the wrong one (Clark and Gardner, 2018, section 3.2, summed objective). Pairs without
    the answer, unanswerable questions among them, have the null position as their only target.
    """

    Options = ReadingTaskOptions
    options: ReadingTaskOptions
    head = "reading"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._article = by_title(self.passages.values())

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Take questions with answers and those that are known to have none."""
        return bool(question.answers) or question.unanswerable

    def collate(self, items: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise pairs and mark the answers' tokens, or the null position."""
        texts = [self._passage_text(question, rng) for question in items]
        queries = [question.text for question in items]
        answers = [question.answers for question in items]
        return pair_features(self.tokenizer, self.options, queries, texts, answers, rng)

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return span loss plus weighted relevance loss."""
        return pair_loss(model, features, self.options.relevance_weight)

    def _passage_text(self, question: Question, rng: np.random.Generator) -> str:
        gold = self.passages[question.passage_id]
        negative = None
        if rng.random() < self.options.negative_rate:
            others = question.hard_negative_ids or self._article[gold.title]
            negative = text_without(question.answers, others, self.passages, rng)
        return gold.text if negative is None else negative
