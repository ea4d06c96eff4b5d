"""Inverse cloze: find the passage that a sentence was taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import Passage
from training.errors import require
from training.tasks.base import Features, PassageTask
from training.tasks.contrast import ContrastOptions, contrast, embed, titled, tokenize
from training.tasks.texts import sentences, without
from training.towers import query_tower

if TYPE_CHECKING:
    from rom_haystack.modeling import ROMModel


@dataclass(frozen=True)
class InverseClozeOptions(ContrastOptions):
    """Options of `InverseClozeTask`.

    Args:
        kept_rate: Share of sentences that stay in their passage, so that matching words are learnt, too.
    """

    batch_size: int = 32
    kept_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "kept_rate", 0 <= self.kept_rate <= 1, "from 0 to 1")


class InverseClozeTask(PassageTask):
    """Train the `retrieval` head by sentences as queries for the passages around them (Lee et al., 2019, section 4).

    Each sentence is contrasted with the passages of its batch.
    """

    Options = InverseClozeOptions
    options: InverseClozeOptions
    head = "retrieval"
    nothing_found = "no passage there has two sentences"

    @classmethod
    def trains_on(cls, passage: Passage) -> bool:
        """Take passages of two sentences or more."""
        return len(sentences(passage.text)) >= 2

    def collate(self, items: Sequence[Passage], rng: np.random.Generator) -> Features:
        """Draw a sentence of each passage and tokenise both."""
        queries, texts = [], []
        for passage in items:
            bounds = sentences(passage.text)
            start, end = bounds[int(rng.integers(len(bounds)))]
            queries.append(passage.text[start:end])
            kept = rng.random() < self.options.kept_rate
            rest = passage.text if kept else without(passage.text, start, end)
            with_title = rng.random() < self.options.title_rate
            texts.append(titled(self.tokenizer, Passage(passage.id, passage.title, rest)) if with_title else rest)
        return {
            "queries": tokenize(self.tokenizer, queries, self.options.max_query_length),
            "passages": tokenize(self.tokenizer, texts, self.options.max_passage_length),
        }

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the contrast within the batch."""
        queries = embed(query_tower(model), features["queries"], self.options.chunk_size)
        passages = embed(model, features["passages"], self.options.chunk_size)
        scores = queries @ passages.T / self.options.temperature
        gold = torch.arange(len(scores), device=scores.device)
        loss = contrast(scores, torch.zeros_like(scores, dtype=torch.bool), gold)
        return loss, {"contrast": loss.detach(), "recall@1": (scores.argmax(-1) == gold).float().mean()}
