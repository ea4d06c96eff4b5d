"""Contrast of queries with passages by their vectors, as retrieval and inverse cloze train it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rom_haystack.inference.facts import title_separator
from training.errors import require
from training.tasks.base import BUCKET, SHORTEST, TaskOptions
from training.tasks.chunks import chunks_by_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel
    from training.data.dataset import Passage


@dataclass(frozen=True)
class ContrastOptions(TaskOptions):
    """Options of tasks that contrast queries with passages.

    Args:
        max_query_length: Tokens per query.
        max_passage_length: Tokens per passage.
        temperature: Divisor of the similarities in the softmax.
        title_rate: Share of passages that are encoded with their title in front.
        chunk_size: Texts that are encoded at once; None for all of a batch. Smaller chunks need less memory, and a
            second encoding of each: see `embed`.
        group_by_length: Make batches of passages of similar length, so that little is padded; for small batches without
            chunks. Questions of one passage, which is as long as itself, then share batches, so that large ones hold
            far fewer passages to contrast with. False draws each batch from all items.
    """

    batch_size: int = 16
    max_query_length: int = 48
    max_passage_length: int = 256
    temperature: float = 0.05
    title_rate: float = 0.5
    chunk_size: int | None = None
    group_by_length: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("max_query_length", "max_passage_length"):
            require(self, key, getattr(self, key) >= SHORTEST, f"at least {SHORTEST}, special tokens counted")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "title_rate", 0 <= self.title_rate <= 1, "from 0 to 1")
        require(self, "chunk_size", self.chunk_size is None or self.chunk_size >= 1, "at least 1")

    @property
    def bucket(self) -> int:
        """Batches that are sorted by length together."""
        return BUCKET if self.group_by_length else 1


def embed(model: ROMModel, tokens: dict[str, Tensor], chunk_size: int | None = None) -> Tensor:
    """Embed texts, keeping the activations of one chunk at most.

    The gradients are those of encoding all texts at once, as the gradient of a contrast reaches the encoder through
    the embeddings only (GradCache: Gao et al., 2021, section 3). Its steps are torch's checkpointing of each chunk: the
    first pass keeps embeddings alone; the backward pass encodes chunk after chunk again, with the same random numbers
    (dropout) and under the same autocast, and lets the gradient through.

    Chunks are made of texts of similar length, the longest first, and are as long as their longest text.

    Args:
        model: Its `retrieval` head is asked.
        tokens: Inputs of the model, each `[texts, length]`.
        chunk_size: Texts that are encoded at once; None for all, which encodes them once only.

    Returns:
        `[texts, dim]`, in float32.
    """

    def encode(*inputs: Tensor) -> Tensor:
        outputs: dict[str, Tensor] = model(**dict(zip(tokens, inputs, strict=True)), head="retrieval")
        return outputs["embedding"].float()

    if chunk_size is None:
        return encode(*tokens.values())
    order, embeddings = [], []
    for rows, _, chunk in chunks_by_length(tokens, chunk_size):
        order.append(rows)
        embeddings.append(checkpoint(encode, *chunk.values(), use_reentrant=False))
    return torch.cat(embeddings)[torch.cat(order).argsort()]


def contrast(scores: Tensor, ignored: Tensor, gold: Tensor) -> Tensor:
    """Return the mean cross-entropy of choosing the gold candidates.

    Args:
        scores: `[pairs, candidates]` similarities over temperature, a row per query and positive.
        ignored: `[pairs, candidates]`, what counts neither for nor against a query; never the gold candidate.
        gold: `[pairs]`, index of the gold candidate.
    """
    return functional.cross_entropy(scores.masked_fill(ignored, -torch.inf), gold)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> dict[str, Tensor]:
    """Tokenise texts into padded inputs of the model."""
    return dict(tokenizer(list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="pt"))


def titled(tokenizer: PreTrainedTokenizerBase, passage: Passage) -> str:
    """Return a passage's text behind its title, as the model sees documents with titles."""
    return f"{passage.title}{title_separator(tokenizer)}{passage.text}" if passage.title else passage.text
