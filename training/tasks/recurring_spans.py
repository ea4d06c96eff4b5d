"""Recurring-span reading: find the span that is hidden in one sentence where the passage has it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from training.tasks.base import Features, PassageTask, require_mask_token
from training.tasks.pairs import PairOptions, clip_before, pair_features, pair_loss, text_without
from training.tasks.texts import RecurringSpan, occurrences, recurring_spans, without

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage

#: Passages whose spans are kept, a few KB each.
_KEPT = 32_768


@dataclass(frozen=True)
class RecurringSpansOptions(PairOptions):
    """Options of `RecurringSpansTask`: those of pairs.

    Queries are sentences, so more of their tokens are kept, those around the mask.
    """

    max_query_length: int = 64


class RecurringSpansTask(PassageTask):
    """Train the `reading` head by pseudo questions (after Splinter: Ram et al., 2021, section 3).

    The query is a sentence with a span of it masked, the passage is the rest around it, and the answers are the other
    occurrences of the span there. Splinter masks all occurrences but one in the passage itself, and asks by a token of
    its own; a query apart has the form that the head reads anyway.
    """

    Options = RecurringSpansOptions
    options: RecurringSpansOptions
    head = "reading"
    nothing_found = "no passage there has a span that stands in two sentences"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mask = require_mask_token("recurring_spans", self.tokenizer)
        self._spans = lru_cache(_KEPT)(lambda text: tuple(recurring_spans(text)))

    @classmethod
    def trains_on(cls, passage: Passage) -> bool:
        """Take passages with a recurring span."""
        return any(recurring_spans(passage.text))

    def collate(self, items: Sequence[Passage], rng: np.random.Generator) -> Features:
        """Draw a recurring span of each passage, ask for it, and mark where it stands."""
        queries, texts, answers = [], [], []
        for passage in items:
            spans = self._spans(passage.text)
            span = spans[int(rng.integers(len(spans)))]
            queries.append(self._query(passage.text, span))
            negative = None
            if rng.random() < self.options.negative_rate:
                others = self.numbered.ids(self.numbered.article(passage.title))
                negative = text_without([span.text], others, self.passages, rng)
            texts.append(without(passage.text, span.start, span.end) if negative is None else negative)
            answers.append(occurrences([span.text], texts[-1]) if negative is None else [])
        return pair_features(self.tokenizer, self.options, queries, texts, answers, rng)

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return span loss plus weighted relevance loss."""
        return pair_loss(model, features, self.options.relevance_weight, self.options.chunk_size)

    def _query(self, text: str, span: RecurringSpan) -> str:
        """Return the span's sentence with masks in its places, clipped in front where the first would be cut off."""
        sentence = text[span.start : span.end]
        places = occurrences([span.text], sentence)
        for start, end in reversed(places):
            sentence = sentence[:start] + self._mask + sentence[end:]
        return clip_before(self.tokenizer, sentence, places[0][0], self.options.max_query_length)
