"""Chunks of a batch: its texts in order of their length, so that little is padded and little is kept at once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def chunks_by_length(tokens: dict[str, Tensor], size: int) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """Cut a batch into chunks of texts of similar length, the longest first, each as long as its longest text.

    Args:
        tokens: Inputs of the model, each `[texts, length]`.
        size: Texts per chunk; the last may have fewer.

    Yields:
        The numbers of the chunk's texts, which of the batch's positions it keeps (`[length]`, booleans), its inputs.
    """
    real = tokens["attention_mask"].bool()
    for rows in real.sum(-1).argsort(descending=True, stable=True).split(size):
        columns = real[rows].any(0)
        yield rows, columns, {name: tensor[rows][:, columns] for name, tensor in tokens.items()}
