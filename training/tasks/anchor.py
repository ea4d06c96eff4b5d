"""Anchor: keep the vectors of any texts where the untrained model put them, and as similar to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.dataset import Passage
from training.data.numbered import places
from training.errors import require
from training.tasks.bank import load_bank
from training.tasks.base import Features, PassageTask, TaskOptions
from training.tasks.contrast import embed, titled, tokenize
from training.tasks.texts import sentences

if TYPE_CHECKING:
    from pathlib import Path

    from rom_haystack.modeling import ROMModel


#: What of a passage is anchored: a sentence's bounds, or 0 and 0 for the whole, and whether its title stands before it.
_PART = np.dtype([("start", np.int32), ("end", np.int32), ("with_title", np.bool_)])


@dataclass(frozen=True)
class AnchorOptions(TaskOptions):
    """Options of `AnchorTask`.

    Args:
        max_length: Tokens per text.
        title_rate: Share of passages that are anchored with their title in front.
        sentence_rate: Share of passages of which one sentence is anchored instead, as queries are short.
        cosine_weight: Weight of the vectors' own drift; 0 for none.
        similarity_weight: Weight of the drift of their similarities; 0 for none.
        temperature: Divisor of the similarities in the softmax.
        chunk_size: Texts that are encoded at once; None for all of a batch. See `training.tasks.contrast.embed`.
    """

    batch_size: int = 64
    max_length: int = 256
    title_rate: float = 0.5
    sentence_rate: float = 0.25
    cosine_weight: float = 1.0
    similarity_weight: float = 1.0
    temperature: float = 0.05
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "max_length", self.max_length >= 4, "at least 4")
        require(self, "title_rate", 0 <= self.title_rate <= 1, "from 0 to 1")
        require(self, "sentence_rate", 0 <= self.sentence_rate <= 1, "from 0 to 1")
        require(self, "cosine_weight", self.cosine_weight >= 0, "at least 0")
        require(self, "similarity_weight", self.similarity_weight >= 0, "at least 0")
        require(self, "similarity_weight", self.cosine_weight + self.similarity_weight > 0, "above 0 without the other")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "chunk_size", self.chunk_size is None or self.chunk_size >= 1, "at least 1")
        comparable = self.batch_size >= 3 or not self.similarity_weight  # one other text leaves nothing to choose
        require(self, "batch_size", comparable, "at least 3, or 'similarity_weight' 0")


class AnchorTask(PassageTask):
    """Keep general skill: train the `retrieval` head to place texts as the untrained model does.

    Meant for texts of other kinds than those that the run learns from (`data`). Two losses are added: how far each
    vector turned (1 - cosine), and the Kullback-Leibler divergence of the batch's similarities, text by text a softmax
    over all others, from what they were (probabilistic knowledge transfer: Passalis and Tefas, 2018, section 3). The
    second lets the space turn as a whole, as long as neighbours stay neighbours.

    The untrained model is the one that the run starts from. Its vectors are computed once and kept in the run folder.
    """

    Options = AnchorOptions
    options: AnchorOptions
    head = "retrieval"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rng = np.random.default_rng((self.seed, 2))
        self._parts = np.fromiter((self._draw_part(passage, rng) for passage in self.items), _PART, len(self.items))
        self._row = places(self.items, self.passages)
        self._bank = torch.empty(0)

    def prepare(self, model: ROMModel, folder: Path) -> None:
        """Encode all texts, unless a run in this folder already has."""
        lengths = np.fromiter(map(len, map(self._text, range(len(self.items)))), np.int32, len(self.items))
        self._bank = load_bank(folder / "anchor_bank.safetensors", model, lengths, self._tokens)

    def collate(self, items: Sequence[Passage], rng: np.random.Generator) -> Features:  # noqa: ARG002 (drawn before)
        """Tokenise the passages' texts; `rows` says where their vectors stand."""
        rows = [self._row(passage.id) for passage in items]
        return {"inputs": self._tokens(rows), "rows": torch.tensor(rows)}

    def loss(self, model: ROMModel, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of both drifts."""
        live = embed(model, features["inputs"], self.options.chunk_size)
        before = self._bank[features["rows"]]
        drift = 1 - functional.cosine_similarity(live, before).mean()
        divergence = similarity_divergence(live, before, self.options.temperature)
        loss = self.options.cosine_weight * drift + self.options.similarity_weight * divergence
        return loss, {"drift": drift.detach(), "divergence": divergence.detach()}

    def _tokens(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return tokenize(self.tokenizer, [self._text(row) for row in rows], self.options.max_length)

    def _text(self, row: int) -> str:
        passage, (start, end, with_title) = self.items[row], self._parts[row].item()
        if end:
            return passage.text[start:end]
        return titled(self.tokenizer, passage) if with_title else passage.text

    def _draw_part(self, passage: Passage, rng: np.random.Generator) -> tuple[int, int, bool]:
        """Draw, once for the run, what of a passage is anchored: a sentence, or the whole, maybe behind its title."""
        as_sentence, with_title = rng.random(2) < (self.options.sentence_rate, self.options.title_rate)
        if as_sentence:
            bounds = list(sentences(passage.text))
            return *bounds[int(rng.integers(len(bounds)))], False
        return 0, 0, bool(with_title)


def similarity_divergence(live: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Return how far the similarities of a batch are from what they were: a mean Kullback-Leibler divergence.

    Args:
        live: `[texts, dim]`.
        before: `[texts, dim]`, the target; without gradient.
        temperature: Divisor of the inner products.

    Returns:
        A scalar: the mean over texts of KL(before, live), each a softmax over the other texts; 0 for a single text.
    """
    if len(live) < 2:
        return live.new_zeros(())
    others = ~torch.eye(len(live), dtype=torch.bool, device=live.device)
    now, then = (
        (vectors @ vectors.T / temperature)[others].view(len(live), -1).log_softmax(-1) for vectors in (live, before)
    )
    return functional.kl_div(now, then, reduction="batchmean", log_target=True)
