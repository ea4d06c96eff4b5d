"""Extractive reading: find the answer span in a query-passage pair, or point at the null position."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from training.data.numbered import those
from training.errors import require
from training.tasks.altering import altered
from training.tasks.base import Features, QuestionTask
from training.tasks.pairs import PairOptions, pair_features, pair_loss, text_without
from training.tasks.texts import answer_places

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel
    from training.data.dataset import DataSet, Question

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadingTaskOptions(PairOptions):
    """Options of `ReadingTask`: those of pairs, and these.

    Args:
        altered_rate: Share of the pairs with an answer whose question is altered so that its passage does not answer
            it any more, by rules for English (`training.tasks.altering`). A question to which no rule applies, as to
            a third of SQuAD's, stays as it is.
    """

    altered_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "altered_rate", 0 <= self.altered_rate <= 1, "from 0 to 1")


class PairTask(QuestionTask):
    """A task that trains the `reading` head by questions with their passages, or with others in their place."""

    options: PairOptions
    head = "reading"

    def _passage_text(self, question: Question, rng: np.random.Generator) -> str:
        gold = self.passages[question.passage_id]
        negative = None
        if rng.random() < self.options.negative_rate:
            others = question.hard_negative_ids or self.numbered.ids(self.numbered.article(gold.title))
            negative = text_without(question.answers, others, self.passages, rng)
        return gold.text if negative is None else negative


class ReadingTask(PairTask):
    """Train the `reading` head.

    The span loss is the negative log-likelihood of all occurrences of the answer in the window together, since
    distant offsets may name the wrong one (Clark and Gardner, 2018, section 3.2, summed objective). Pairs without
    the answer, unanswerable and altered questions among them, have the null position as their only target. Questions
    whose answer stands nowhere in their gold passage are left out.
    """

    Options = ReadingTaskOptions
    options: ReadingTaskOptions
    nothing_found = "no question there has an answer that stands in its gold passage"

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Take questions with answers and those that are known to have none."""
        return bool(question.answers) or question.unanswerable

    @classmethod
    def items_of(cls, data: DataSet) -> Sequence[Question]:
        """Return the questions that the task trains on, and log how many are left out for want of their answer."""

        def stands(question: Question) -> bool:
            text = data.passages[question.passage_id].text
            return question.unanswerable or any(answer in text for answer in question.answers)

        items = super().items_of(data)
        found = those(items, stands)
        if len(found) < len(items):
            left_out = len(items) - len(found)
            logger.info("reading: left out %d x question whose answer is not in its gold passage", left_out)
        return found

    def collate(self, items: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise pairs and mark the answers' tokens, or the null position."""
        texts = [self._passage_text(question, rng) for question in items]
        queries, answers = [], []
        for question, text in zip(items, texts, strict=True):
            found = answer_places(question, text) if text == self.passages[question.passage_id].text else []
            other = self._altered(question, text, rng) if found else None
            queries.append(other or question.text)
            answers.append([] if other else found)
        return pair_features(self.tokenizer, self.options, queries, texts, answers, rng)

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return span loss plus weighted relevance loss."""
        return pair_loss(model, features, self.options.relevance_weight, self.options.chunk_size)

    def _altered(self, question: Question, text: str, rng: np.random.Generator) -> str | None:
        if not self.options.altered_rate or rng.random() >= self.options.altered_rate:
            return None
        return altered(question.text, text, question.answers, rng)
