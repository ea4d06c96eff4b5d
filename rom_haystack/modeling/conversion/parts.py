"""What all conversions end in: a ROM model put together from an encoder's weights and heads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from rom_haystack.modeling.config import ROMConfig
from rom_haystack.modeling.errors import CheckpointError
from rom_haystack.modeling.model import ROMModel


@dataclass(frozen=True)
class Converted:
    """A model of another kind as a ROM model.

    Attributes:
        model: In evaluation mode, with the heads that the source has, and no others.
        tokenizer: Its tokenizer.
        kind: What the source was, in words.
        notes: What its user should know, a sentence each.
    """

    model: ROMModel
    tokenizer: PreTrainedTokenizerBase
    kind: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeadWeights:
    """A head to be: its options, and its weights by name (none where it has none)."""

    options: dict[str, Any]
    weights: Mapping[str, Tensor]


def put_together(
    config: PretrainedConfig, encoder: Mapping[str, Tensor], heads: Mapping[str, HeadWeights], *, source: str
) -> ROMModel:
    """Build a model from the weights of its parts. BERT's pooler, which no head uses, is left out.

    Raises:
        CheckpointError: Weights do not fit the configuration; the message names `source`.
    """
    config = copy.deepcopy(config)
    config.architectures = None
    options = {name: head.options for name, head in heads.items()}
    model = ROMModel(ROMConfig(encoder=config, heads=options, pad_token_id=getattr(config, "pad_token_id", None)))
    state = {f"encoder.{name}": tensor for name, tensor in encoder.items() if not _is_unused(name)}
    for name, head in heads.items():
        state |= {f"heads.{name}.{key}": tensor for key, tensor in head.weights.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"The weights of {source} do not fit its configuration: {error}") from error
    model.float().eval()
    return model


def same_encoder(one: ROMModel, other: ROMModel) -> bool:
    """Tell whether two models stand on equal encoders."""
    first, second = one.encoder.state_dict(), other.encoder.state_dict()
    return first.keys() == second.keys() and all(
        tensor.shape == second[name].shape and torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def _is_unused(name: str) -> bool:
    return name.startswith("pooler.") or name.endswith("position_ids")
