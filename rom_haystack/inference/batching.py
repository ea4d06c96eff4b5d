"""Batches of similar length within a token budget."""

from __future__ import annotations

from collections.abc import Sequence


def length_bucketed_batches(
    lengths: Sequence[int], *, token_budget: int, batch_size: int | None = None
) -> list[list[int]]:
    """Group items so that little is padded and no batch outgrows the budget.

    Items are sorted by length, longest first, so that a machine too small for the work fails at once.

    Args:
        lengths: Tokens per item.
        token_budget: Most tokens per batch, padding counted; a longer item gets a batch of its own.
        batch_size: Most items per batch; None for no limit.

    Returns:
        Indices into `lengths`, batch by batch; every index once.

    Raises:
        ValueError: `token_budget` or `batch_size` is below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        rows = len(batches[-1]) + 1 if batches else 1
        if not batches or rows * longest > token_budget or (batch_size is not None and rows > batch_size):
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches
