"""Task heads: small named modules on top of the shared encoder.

A head turns hidden states into what its task needs. Adding a task means writing a `Head`, decorating it with
`@register_head("name")` and naming it in `ROMConfig.heads`; `ROMModel` does not change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rom_haystack.modeling.errors import CheckpointError

HEADS: dict[str, type[Head]] = {}
HeadType = TypeVar("HeadType", bound="type[Head]")


class Head(nn.Module, ABC):
    """Base class of all heads.

    Args:
        hidden_size: Width of the encoder's hidden states.
        embedding_size: Width of the encoder's word embeddings (differs from `hidden_size` in ELECTRA-small).
        vocab_size: Number of word embeddings.
    """

    def __init__(self, hidden_size: int, embedding_size: int, vocab_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.embedding_size = embedding_size
        self.vocab_size = vocab_size

    @abstractmethod
    def forward(self, hidden_states: Tensor, attention_mask: Tensor, word_embeddings: Tensor) -> dict[str, Tensor]:
        """Compute the head's named outputs.

        Args:
            hidden_states: `[batch, length, hidden_size]` from the encoder.
            attention_mask: `[batch, length]`, 1 for real tokens.
            word_embeddings: `[vocab_size, embedding_size]`, the encoder's own table, for tied heads.
        """


def register_head(name: str) -> Callable[[HeadType], HeadType]:
    """Make a head class available to `ROMConfig.heads` under `name`."""

    def register(head: HeadType) -> HeadType:
        HEADS[name] = head
        return head

    return register


def build_head(name: str, options: dict[str, Any], **sizes: int) -> Head:
    """Instantiate the head registered as `name`.

    Raises:
        CheckpointError: The name is not registered, or an option is not one of the head's.
    """
    if name not in HEADS:
        raise CheckpointError(
            f"Unknown head '{name}'. Known heads: {', '.join(sorted(HEADS))}. If it belongs to a task of your own, "
            "import the module that registers it before loading the checkpoint."
        )
    try:
        return HEADS[name](**sizes, **options)
    except TypeError as error:
        raise CheckpointError(f"Head '{name}' does not take the options {options}: {error}") from error


@register_head("retrieval")
class RetrievalHead(Head):
    """Pool a query or a passage into one vector (`embedding`: `[batch, dim]`).

    Args:
        pooling: `mean` over real tokens, or `cls` for the first token.
        projection_dim: Width of a linear projection after pooling; None for no projection.
        similarity: `cosine` makes unit-length vectors, `dot` leaves their length; so does `unscaled_cosine`, for models
            whose vectors are compared by cosine nevertheless.
    """

    def __init__(
        self, *, pooling: str = "mean", projection_dim: int | None = None, similarity: str = "cosine", **sizes: int
    ) -> None:
        super().__init__(**sizes)
        if pooling not in ("mean", "cls"):
            raise CheckpointError(f"Unknown pooling '{pooling}' of the retrieval head; choose 'mean' or 'cls'.")
        if similarity not in ("cosine", "dot", "unscaled_cosine"):
            raise CheckpointError(
                f"Unknown similarity '{similarity}' of the retrieval head; choose 'cosine', 'dot' or 'unscaled_cosine'."
            )
        if projection_dim is not None and projection_dim < 1:
            raise CheckpointError(
                f"Width {projection_dim} of the retrieval head's projection is below 1; leave 'projection_dim' out for "
                "no projection."
            )
        self.pooling = pooling
        self.similarity = similarity
        self.dim = projection_dim or self.hidden_size
        self.projection = nn.Linear(self.hidden_size, projection_dim) if projection_dim else nn.Identity()

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, word_embeddings: Tensor) -> dict[str, Tensor]:
        """Return `embedding`."""
        if self.pooling == "cls":
            pooled = hidden_states[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)
            pooled = (hidden_states * mask).sum(1) / mask.sum(1).clamp(min=1)
        embedding = self.projection(pooled)
        if self.similarity == "cosine":
            embedding = nn.functional.normalize(embedding.float(), dim=-1)
        return {"embedding": embedding}


@register_head("reading")
class ReadingHead(Head):
    """Score answer spans in a query-passage pair.

    Outputs `start_logits` and `end_logits` (`[batch, length]`) and `relevance_logits` (`[batch]`): whether the passage
    answers the query. Position 0 is the null position: a span there means "no answer in this passage", as in
    BERT's SQuAD 2.0 set-up (Devlin et al., 2019, section 4.3). A passage-selection score beside the spans is DPR's
    (Karpukhin et al., 2020, section 6.1).

    Args:
        null: `first` where position 0 is the null position. `none` for readers that know none, such as DPR's: start
            and end logits are then log-probabilities among the positions of the input, and position 0 is set to
            nought, so that a span's score against it is its log-probability.
    """

    def __init__(self, *, null: str = "first", **sizes: int) -> None:
        super().__init__(**sizes)
        if null not in ("first", "none"):
            raise CheckpointError(f"Unknown null '{null}' of the reading head; choose 'first' or 'none'.")
        self.null = null
        self.span = nn.Linear(self.hidden_size, 2)
        self.relevance = nn.Linear(self.hidden_size, 1)

    @property
    def has_relevance(self) -> bool:
        """Whether relevance tells passages apart: of readers that came without, its weights are nought."""
        return bool(self.relevance.weight.any())

    def forward(self, hidden_states: Tensor, attention_mask: Tensor, word_embeddings: Tensor) -> dict[str, Tensor]:
        """Return `start_logits`, `end_logits` and `relevance_logits`."""
        start_logits, end_logits = self.span(hidden_states).unbind(-1)
        if self.null == "none":
            start_logits, end_logits = (_among_positions(x, attention_mask) for x in (start_logits, end_logits))
        return {
            "start_logits": start_logits,
            "end_logits": end_logits,
            "relevance_logits": self.relevance(hidden_states[:, 0]).squeeze(-1),
        }


def _among_positions(logits: Tensor, attention_mask: Tensor) -> Tensor:
    """Turn logits into log-probabilities among the real tokens, and set position 0 to nought."""
    real = logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min)
    probabilities = logits - real.logsumexp(dim=-1, keepdim=True)
    return torch.cat([torch.zeros_like(probabilities[:, :1]), probabilities[:, 1:]], dim=1)


@register_head("masked_lm")
class MaskedLMHead(Head):
    """Predict masked tokens (`token_logits`), tied to the word embeddings.

    The vocabulary is large: logits of all tokens of a batch may take more memory than all else of a training step. So
    the head takes the positions whose tokens are sought.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.transform = nn.Sequential(
            nn.Linear(self.hidden_size, self.embedding_size), nn.GELU(), nn.LayerNorm(self.embedding_size)
        )
        self.bias = nn.Parameter(torch.zeros(self.vocab_size))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor, word_embeddings: Tensor, *, sought: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return `token_logits`.

        Args:
            hidden_states: `[batch, length, hidden_size]` from the encoder.
            attention_mask: `[batch, length]`, 1 for real tokens.
            word_embeddings: `[vocab_size, embedding_size]`.
            sought: `[batch, length]`, true where the token is sought: the logits are `[sought tokens, vocab_size]`, in
                the order of rows and positions. None for all: `[batch, length, vocab_size]`.
        """
        if sought is not None:
            hidden_states = hidden_states[sought]
        return {"token_logits": nn.functional.linear(self.transform(hidden_states), word_embeddings, self.bias)}
