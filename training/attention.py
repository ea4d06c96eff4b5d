"""An attention that trains fast on CPUs, as an implementation of its own among transformers'."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

#: Its name in recipes.
LEAN = "lean"


def lean_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attend as transformers' `eager` does, with scores and probabilities in the inputs' precision throughout.

    Under bfloat16 autocast `eager` turns scores into float32 for the softmax and back, which takes longer on CPUs than
    the products themselves; torch's softmax computes in float32 inside either way. The backward pass of torch's fused
    attention takes longer still.

    Args:
        module: The layer; only whether it is training matters.
        query: `[batch, heads, length, size]`; so are `key` and `value`.
        key: Keys.
        value: Values.
        attention_mask: What is added to scores, broadcastable to `[batch, heads, length, length]`; None for nothing.
        scaling: Factor of the scores; None for one over the root of `size`.
        dropout: Probability of dropping a place.

    Returns:
        `[batch, length, heads, size]`, and the probabilities.
    """
    scaling = query.size(-1) ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        scores = (query * scaling) @ key.transpose(-1, -2)
        if attention_mask is not None:
            scores += attention_mask.to(scores.dtype)  # in place: the product's gradient does not need it
        weights = functional.dropout(scores.softmax(-1), dropout, training=module.training)
        return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register(LEAN, lean_attention)
AttentionMaskInterface.register(LEAN, eager_mask)

#: What recipes may name: transformers' own, but for those that generate text, and this one. Others it would fetch.
ATTENTIONS = ("eager", *sorted(name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name))
