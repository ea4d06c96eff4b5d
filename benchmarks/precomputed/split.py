"""A ROM model whose lower layers read query and passage apart, so that passages can be read ahead of any query.

The idea is DeFormer's (Cao et al., 2020) and PreTTR's (MacAvaney et al., 2020). Here it is an attention mask over whole
pairs: as accurate as with stored states, and it can be trained; `stored.py` has the form that saves the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rom_haystack.modeling import ROMModel

Precision = Literal["float32", "float16", "int8"]

#: Logit of tokens that no answer may touch; finite, so that sums of two stay finite.
_NEVER = -1e4


@dataclass(frozen=True)
class Split:
    """Where and how query and passage are kept apart.

    Args:
        layers: Number of lower layers in which they do not see each other; 0 keeps ordinary reading.
        first_position: Position of the passage's first token (of its own [CLS], if it has one); None places it behind
            the query, as ordinary reading does, which stored states can't.
        own_cls: Whether the passage begins with a [CLS] of its own below the split.
        segment: Segment id of the passage: 1 in pairs, 0 in the passages that retrieval embeds.
        with_title: Whether the passage's text begins with its title and a [SEP], to be seen below the split only.
        one_way: Whether the query sees the passage below the split, though the passage never sees the query.
        stored_as: Precision in which the passage's states pass the split.

    Raises:
        ValueError: The passage has a [CLS] of its own, but no place of its own.
    """

    layers: int = 0
    first_position: int | None = None
    own_cls: bool = False
    segment: int = 1
    with_title: bool = False
    one_way: bool = False
    stored_as: Precision = "float32"

    def __post_init__(self) -> None:
        if self.own_cls and self.first_position is None:
            raise ValueError("A passage with a [CLS] of its own needs a first_position: behind the query is no room.")


@dataclass(frozen=True)
class _Layout:
    """Pairs as the layers see them; a passage's own [CLS] stands in an extra last column.

    Attributes:
        input_ids: `[batch, length]`, like all others.
        positions: Position ids.
        segments: Segment ids.
        real: False for padding.
        passage: True for the passage and what belongs to it (title, own [CLS]).
        below_only: True for tokens that upper layers do not see.
    """

    input_ids: Tensor
    positions: Tensor
    segments: Tensor
    real: Tensor
    passage: Tensor
    below_only: Tensor


class SplitModel(ROMModel):
    """A ROM model that reads by a `Split`; embeddings are the same as ever.

    Args:
        model: The model, a BERT; its weights are shared, not copied.
        tokenizer: Its tokenizer.
        split: How to read.

    Raises:
        ValueError: The encoder is no BERT, or has fewer layers than are to be split.
    """

    def __init__(self, model: ROMModel, tokenizer: PreTrainedTokenizerBase, split: Split) -> None:
        kind, layers = model.config.encoder.model_type, model.config.encoder.num_hidden_layers
        if kind != "bert":
            raise ValueError(f"The encoder is a '{kind}'; only BERT's layers can be split here.")
        if not 0 <= split.layers <= layers:
            raise ValueError(f"{split.layers} layers are to be split; the encoder has {layers}.")
        with torch.device("meta"):
            super().__init__(model.config)
        self.encoder, self.heads = model.encoder, model.heads
        self.train(model.training)
        self.split = split
        self.cls_token_id, self.sep_token_id = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        head: str = "retrieval",
        **head_inputs: Tensor,
    ) -> dict[str, Tensor]:
        """Encode a batch and apply one head, as `ROMModel.forward`; pairs are told from the rest by the head."""
        if head != "reading" or token_type_ids is None:
            return super().forward(input_ids, attention_mask, token_type_ids, head, **head_inputs)
        length = input_ids.shape[1]
        layout = self._lay_out(input_ids, attention_mask.bool(), token_type_ids)
        states: Tensor = self.encoder.embeddings(
            input_ids=layout.input_ids, token_type_ids=layout.segments, position_ids=layout.positions
        )
        for number, layer in enumerate(self.encoder.encoder.layer):
            if number == self.split.layers:
                states = self._as_stored(states, layout)
            below = number < self.split.layers
            states = layer(states, _additive(self._seen_below(layout) if below else _seen_above(layout), states))
        outputs: dict[str, Tensor] = self.heads["reading"](
            states[:, :length], attention_mask, self.get_input_embeddings().weight
        )
        hidden = layout.below_only[:, :length]
        return outputs | {side: outputs[side].masked_fill(hidden, _NEVER) for side in ("start_logits", "end_logits")}

    def _lay_out(self, input_ids: Tensor, real: Tensor, token_type_ids: Tensor) -> _Layout:
        passage = (token_type_ids == 1) & real
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if self.split.first_position is not None:
            rank = passage.long().cumsum(1) - 1 + self.split.own_cls
            positions = torch.where(passage, rank + self.split.first_position, positions)
        segments = torch.where(passage, self.split.segment, 0)
        below_only = self._title(input_ids, passage) if self.split.with_title else torch.zeros_like(passage)
        layout = _Layout(input_ids, positions, segments, real, passage, below_only)
        return self._with_own_cls(layout) if self.split.own_cls else layout

    def _with_own_cls(self, layout: _Layout) -> _Layout:
        def extended(tensor: Tensor, value: int) -> Tensor:
            return torch.cat([tensor, tensor.new_full((len(tensor), 1), value)], dim=1)

        return _Layout(
            input_ids=extended(layout.input_ids, self.cls_token_id),
            positions=extended(layout.positions, self.split.first_position or 0),
            segments=extended(layout.segments, self.split.segment),
            real=extended(layout.real, 1),
            passage=extended(layout.passage, 1),
            below_only=extended(layout.below_only, 1),
        )

    def _title(self, input_ids: Tensor, passage: Tensor) -> Tensor:
        """Find the passage's tokens up to its first [SEP], unless that is its end (no title)."""
        separators = ((input_ids == self.sep_token_id) & passage).long()
        before = separators.cumsum(1) - separators
        return passage & (before == 0) & (separators.sum(1, keepdim=True) > 1)

    def _seen_below(self, layout: _Layout) -> Tensor:
        seen = layout.passage[:, :, None] == layout.passage[:, None, :]
        if self.split.one_way:
            seen = seen | ~(layout.passage[:, :, None] | layout.below_only[:, None, :])
        return seen & layout.real[:, None, :]

    def _as_stored(self, states: Tensor, layout: _Layout) -> Tensor:
        if self.split.stored_as == "float32":
            return states
        return torch.where(layout.passage[..., None], stored_and_read(states, self.split.stored_as), states)


def stored_and_read(states: Tensor, precision: Precision) -> Tensor:
    """Return states as they come back after being stored: rounded to float16, or to int8 with a scale per token."""
    if precision == "float16":
        return states.half().to(states.dtype)
    codes, scales = to_int8(states.float())
    return (codes * scales).to(states.dtype)


def to_int8(states: Tensor) -> tuple[Tensor, Tensor]:
    """Round states to codes from -127 to 127 (int8) and a scale for each token (float16, last dimension 1)."""
    scales = (states.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-7).half().float()
    return (states / scales).round().clamp(-127, 127).to(torch.int8), scales


def _seen_above(layout: _Layout) -> Tensor:
    return (layout.real & ~layout.below_only)[:, None, :].expand(-1, layout.real.shape[1], -1)


def _additive(seen: Tensor, states: Tensor) -> Tensor:
    """Write a mask as what is added to attention scores, which every attention implementation takes."""
    mask = torch.zeros(seen.shape, dtype=states.dtype, device=states.device)
    return mask.masked_fill(~seen, torch.finfo(states.dtype).min)[:, None]
