"""Reading from stored states: the form in which a split saves time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.precomputed.split import SplitModel


class StoredReader:
    """Computes passages' states below the split, and reads queries against them with the layers above.

    Args:
        model: A split model, in evaluation mode.

    Raises:
        ValueError: Its split can't be stored: passages placed behind the query, or seen by it in every layer.
    """

    def __init__(self, model: SplitModel) -> None:
        if model.split.first_position is None:
            raise ValueError("Passages placed behind the query have other states for every query; set first_position.")
        if model.split.one_way:
            raise ValueError("A query that sees the passage in every layer needs more than one state per token.")
        self.model = model
        self.split = model.split
        layers = list(model.encoder.encoder.layer)
        self.below, self.above = layers[: self.split.layers], layers[self.split.layers :]

    @torch.inference_mode()
    def passage_states(self, passage_ids: Sequence[int], title_ids: Sequence[int] = ()) -> Tensor:
        """Compute what is stored of a passage.

        Args:
            passage_ids: Its tokens, the last [SEP] included.
            title_ids: Tokens of its title with a [SEP] behind, seen by the passage but not stored.

        Returns:
            `[len(passage_ids), hidden_size]`.
        """
        before = [self.model.cls_token_id] * self.split.own_cls + list(title_ids)
        ids = torch.tensor([[*before, *passage_ids]])
        positions = torch.arange(ids.shape[1])[None] + (self.split.first_position or 0)
        return self._below(ids, positions, torch.full_like(ids, self.split.segment))[0, len(before) :]

    @torch.inference_mode()
    def read(self, query_ids: Sequence[int], passages: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Run the upper layers for one query and several passages.

        Args:
            query_ids: The query's tokens, [CLS] and [SEP] included.
            passages: States of each passage, from `passage_states`.

        Returns:
            For each passage, the reading head's outputs for the pair.
        """
        ids = torch.tensor([query_ids])
        query = self._below(ids, torch.arange(ids.shape[1])[None], torch.zeros_like(ids))
        return [self._above(torch.cat([query, states[None].to(query.dtype)], dim=1)) for states in passages]

    def _below(self, ids: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        states: Tensor = self.model.encoder.embeddings(input_ids=ids, position_ids=positions, token_type_ids=segments)
        for layer in self.below:
            states = layer(states)
        return states

    def _above(self, states: Tensor) -> dict[str, Tensor]:
        for layer in self.above:
            states = layer(states)
        mask = torch.ones(states.shape[:2], dtype=torch.long)
        embeddings = self.model.get_input_embeddings().weight
        outputs: dict[str, Tensor] = self.model.heads["reading"](states, mask, embeddings)
        return {name: logits[0] for name, logits in outputs.items()}
