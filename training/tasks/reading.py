"""Extractive reading: find the answer span in a query-passage pair, or point at the null position."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rom_haystack.inference.tokenization import clip
from training.errors import RecipeError
from training.tasks.base import Features, Task, TaskOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Question

#: At most as many stand around and between a query and a passage.
_SPECIAL_TOKENS = 4


@dataclass(frozen=True)
class ReadingTaskOptions(TaskOptions):
    """Options of `ReadingTask`.

    Args:
        max_length: Tokens per pair; longer passages are cut into windows and one window is used.
        stride: Tokens that neighbouring windows share.
        max_query_length: Tokens of the query that are kept.
        negative_rate: Share of pairs whose passage is replaced by one without the answer: a hard negative of the
            question where the data names some, else one of the same article.
        relevance_weight: Weight of the passage-relevance loss beside the span loss.
    """

    max_length: int = 320
    stride: int = 64
    max_query_length: int = 48
    negative_rate: float = 0.2
    relevance_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        room = self.max_length - self.max_query_length - _SPECIAL_TOKENS
        if not 0 <= self.stride < room:
            raise RecipeError(
                f"Task 'reading' has 'stride' {self.stride}; it must be at least 0 and below {room}, the tokens that "
                f"'max_length' ({self.max_length}) and 'max_query_length' ({self.max_query_length}) leave to a passage."
            )


class ReadingTask(Task):
    """Train the `reading` head.

    The span loss is the negative log-likelihood of all occurrences of the answer in the window together, since
    distant offsets may name the wrong one (Clark and Gardner, 2018, section 3.2, summed objective). Pairs without
    the answer, unanswerable questions among them, have the null position as their only target.
    """

    Options = ReadingTaskOptions
    options: ReadingTaskOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._article: dict[str, list[str]] = defaultdict(list)
        for passage in self.passages.values():
            self._article[passage.title].append(passage.id)

    @classmethod
    def trains_on(cls, question: Question) -> bool:
        """Take questions with answers and those that are known to have none."""
        return bool(question.answers) or question.unanswerable

    def collate(self, questions: Sequence[Question], rng: np.random.Generator) -> Features:
        """Tokenise pairs and mark the answers' tokens, or the null position."""
        texts = [self._passage_text(question, rng) for question in questions]
        queries = [
            clip_to_tokens(self.tokenizer, question.text, self.options.max_query_length) for question in questions
        ]
        encoded = self.tokenizer(
            queries,
            texts,
            truncation="only_second",
            max_length=self.options.max_length,
            stride=self.options.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        windows: dict[int, list[int]] = defaultdict(list)
        for window, sample in enumerate(encoded["overflow_to_sample_mapping"]):
            windows[sample].append(window)
        chosen, spans = [], []
        for sample, question in enumerate(questions):
            characters = occurrences(question.answers, texts[sample])
            found = [(w, self._token_spans(encoded, w, characters)) for w in windows[sample]]
            window, spans_inside = next(((w, s) for w, s in found if s), found[int(rng.integers(len(found)))])
            chosen.append(window)
            spans.append(spans_inside)
        model_inputs = [name for name in self.tokenizer.model_input_names if name in encoded]
        batch = self.tokenizer.pad(
            {name: [encoded[name][w] for w in chosen] for name in model_inputs}, return_tensors="pt"
        )
        targets = torch.zeros(2, *batch["input_ids"].shape, dtype=torch.bool)
        for row, row_spans in enumerate(spans):
            for start, end in row_spans or [(0, 0)]:
                targets[0, row, start] = targets[1, row, end] = True
        allowed = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
        for row, window in enumerate(chosen):
            sequence_ids = encoded.sequence_ids(window)
            allowed[row, : len(sequence_ids)] = torch.tensor([s == 1 for s in sequence_ids])
        allowed[:, 0] = True  # the null position
        relevant = torch.tensor([float(bool(row_spans)) for row_spans in spans])
        return {"inputs": dict(batch), "targets": targets, "allowed": allowed, "relevant": relevant}

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, float]]:
        """Return span loss plus weighted relevance loss."""
        outputs = model(**features["inputs"], head="reading")
        span_loss = outputs["start_logits"].new_zeros(())
        for side, target in zip(("start_logits", "end_logits"), features["targets"], strict=True):
            logits = outputs[side].float().masked_fill(~features["allowed"], -torch.inf)
            gold = logits.masked_fill(~target, -torch.inf)
            span_loss = span_loss + (logits.logsumexp(-1) - gold.logsumexp(-1)).mean() / 2
        relevance_loss = functional.binary_cross_entropy_with_logits(
            outputs["relevance_logits"].float(), features["relevant"]
        )
        loss = span_loss + self.options.relevance_weight * relevance_loss
        return loss, {"span_loss": span_loss.item(), "relevance_loss": relevance_loss.item()}

    def _passage_text(self, question: Question, rng: np.random.Generator) -> str:
        gold = self.passages[question.passage_id]
        if rng.random() < self.options.negative_rate:
            others = question.hard_negative_ids or self._article[gold.title]
            for other in rng.permutation(len(others))[:4]:
                text = self.passages[others[other]].text
                if not occurrences(question.answers, text):
                    return text
        return gold.text

    def _token_spans(self, encoded: Any, window: int, characters: list[tuple[int, int]]) -> list[tuple[int, int]]:
        offsets = encoded["offset_mapping"][window]
        sequence_ids = encoded.sequence_ids(window)
        inside = [i for i, s in enumerate(sequence_ids) if s == 1]
        spans = []
        for start, end in characters:
            first = next((i for i in inside if offsets[i][0] <= start < offsets[i][1]), None)
            last = next((i for i in inside if offsets[i][0] < end <= offsets[i][1]), None)
            if first is not None and last is not None:
                spans.append((first, last))
        return spans


def clip_to_tokens(tokenizer: PreTrainedTokenizerBase, text: str, limit: int) -> str:
    """Cut a text after at most `limit` tokens, never inside a character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return clip(text, encoded["offset_mapping"], limit)


def occurrences(answers: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Find every place where an answer stands as whole words: character offsets `(start, end)`."""
    return [
        (match.start(), match.end())
        for answer in answers
        if answer in text  # far faster than the search for whole words
        for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)
    ]
