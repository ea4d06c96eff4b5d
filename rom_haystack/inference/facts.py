"""What must be known of a model to feed it, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rom_haystack.modeling import ROMModel

#: Encoders that count positions from their padding id plus one, so that fewer tokens fit than they have positions.
_COUNT_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


@dataclass(frozen=True)
class ModelFacts:
    """The few facts of a model that inference needs beside its weights; the same for every backend.

    Attributes:
        embedding_dim: Width of the embeddings; 0 for a model that only reads.
        similarity: `cosine` (unit-length embeddings), `dot` or `unscaled_cosine`, as the retrieval head has it.
        max_length: Most tokens of one input, special tokens counted.
        pad_token_id: Id of the padding token.
        separator: What stands between title and text of a passage (`title [SEP] text`).
        uses_token_types: Whether the encoder tells query from passage by segment ids.
        has_null: Whether its reader knows a null position, and so can tell that there is no answer. Here and below,
            true for a model that does not read, and in exports from before the fact was written.
        has_relevance: Whether its reader tells how relevant passages are.
    """

    embedding_dim: int
    similarity: str
    max_length: int
    pad_token_id: int
    separator: str
    uses_token_types: bool
    has_null: bool = True
    has_relevance: bool = True


def facts_of(model: ROMModel, tokenizer: PreTrainedTokenizerBase) -> ModelFacts:
    """Gather the facts of a loaded model and its tokenizer."""
    config = model.config.encoder
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    taken = (config.pad_token_id or 0) + 1 if config.model_type in _COUNT_FROM_PADDING else 0
    embeds = "retrieval" in model.heads
    reading = dict(model.heads).get("reading")
    return ModelFacts(
        embedding_dim=model.retrieval_head.dim if embeds else 0,
        similarity=model.retrieval_head.similarity if embeds else "dot",
        max_length=int(positions) - taken,
        pad_token_id=tokenizer.pad_token_id or 0,
        separator=title_separator(tokenizer),
        uses_token_types=model.uses_token_types,
        has_null=getattr(reading, "null", "first") == "first",
        has_relevance=getattr(reading, "has_relevance", True),
    )


def title_separator(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what stands between title and text: the tokenizer's own separator, else a blank."""
    return f" {tokenizer.sep_token} " if tokenizer.sep_token else " "
