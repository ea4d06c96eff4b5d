"""PyTorch as an inference engine, on any device: the reference that the other engines are measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.batching import equal_length_batches, length_bucketed_batches, padded_length
from rom_haystack.modeling import ROMModel

_PER_TOKEN = frozenset({"start_logits", "end_logits"})


class TorchBackend(Backend):
    """A ROM model run by PyTorch.

    On CPUs only inputs of equal padded length share a batch, and in low precision none do: an input's outputs are then
    the same whatever else is run. On other devices inputs of similar length share one, which keeps them busier.

    Args:
        model: In evaluation mode and on its device.
        pad_token_id: Id of the padding token.
        max_length: Most tokens that the model takes; nothing is padded beyond it.
        token_budget: Most tokens per forward pass, padding counted; a longer input gets a pass of its own.

    Attributes:
        model: The model.
    """

    def __init__(self, model: ROMModel, *, pad_token_id: int, max_length: int, token_budget: int) -> None:
        self.model = model
        self.name = f"torch-{str(model.dtype).removeprefix('torch.')}"
        self._pad_token_id = pad_token_id
        self._max_length = max_length
        self._token_budget = token_budget

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        """Run the encoder and one head; see `Backend.run`.

        Raises:
            KeyError: The model has no such head.
            ValueError: `batch_size` is below 1.
        """
        outputs: list[Outputs] = [{}] * len(inputs)
        for batch, width in self._batches([len(tokens) for tokens in inputs], batch_size):
            for index, output in zip(batch, self._forward([inputs[i] for i in batch], width, head), strict=True):
                outputs[index] = output
        return outputs

    def _batches(self, lengths: list[int], batch_size: int | None) -> list[tuple[list[int], int]]:
        """Return batches of indices, each with the length that all in it are padded to."""
        if self.model.device.type == "cpu":
            if self.model.dtype != torch.float32:  # matrix products round otherwise for other numbers of rows
                batch_size = 1 if batch_size is None else min(batch_size, 1)
            lengths = [padded_length(length, self._max_length) for length in lengths]
            batches = equal_length_batches(lengths, token_budget=self._token_budget, batch_size=batch_size)
        else:
            batches = length_bucketed_batches(lengths, token_budget=self._token_budget, batch_size=batch_size)
        return [(batch, lengths[batch[0]]) for batch in batches]

    @torch.inference_mode()
    def _forward(self, batch: list[TokenIds], width: int, head: Head) -> list[Outputs]:
        input_ids = np.full((len(batch), width), self._pad_token_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        token_type_ids = np.zeros_like(input_ids)
        for row, tokens in enumerate(batch):
            input_ids[row, : len(tokens)] = tokens.input_ids
            attention_mask[row, : len(tokens)] = 1
            token_type_ids[row, : len(tokens)] = tokens.token_type_ids
        outputs: dict[str, Tensor] = self.model(
            input_ids=self._on_device(input_ids),
            attention_mask=self._on_device(attention_mask),
            token_type_ids=self._on_device(token_type_ids) if self.model.uses_token_types else None,
            head=head,
        )
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in outputs.items()}
        return [
            {
                name: (array[row, : len(tokens)] if name in _PER_TOKEN else array[row, ...]).copy()
                for name, array in arrays.items()
            }
            for row, tokens in enumerate(batch)
        ]

    def _on_device(self, array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)
