"""Batches within a token budget, and how far an input is padded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def padded_length(length: int, limit: int, multiple: int = 32) -> int:
    """Round an input's length up, so that few different shapes reach an engine.

    Args:
        length: Tokens of the input.
        limit: Most tokens that the model takes; the length is not rounded beyond it.
        multiple: What to round up to a multiple of.

    Returns:
        The length with padding: at least 1, never below `length`, and above `limit` only if `length` is.
    """
    rounded = -(-max(length, 1) // multiple) * multiple
    return max(length, min(rounded, limit))


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
    _check_limits(token_budget, batch_size)
    batches: list[list[int]] = []
    longest = 0
    for index in _longest_first(lengths):
        rows = len(batches[-1]) + 1 if batches else 1
        if not batches or rows * longest > token_budget or (batch_size is not None and rows > batch_size):
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def equal_length_batches(
    lengths: Sequence[int], *, token_budget: int, batch_size: int | None = None
) -> list[list[int]]:
    """Group items of equal length, so that no item is padded on another's account.

    Args:
        lengths: Tokens per item, its own padding counted.
        token_budget: Most tokens per batch; a longer item gets a batch of its own.
        batch_size: Most items per batch; None for no limit.

    Returns:
        Indices into `lengths`, batch by batch, longest first; every index once.

    Raises:
        ValueError: `token_budget` or `batch_size` is below 1.
    """
    _check_limits(token_budget, batch_size)
    batches: list[list[int]] = []
    for length, group in groupby(_longest_first(lengths), key=lengths.__getitem__):
        equal = list(group)
        rows = max(token_budget // max(length, 1), 1)
        rows = rows if batch_size is None else min(rows, batch_size)
        batches += [equal[start : start + rows] for start in range(0, len(equal), rows)]
    return batches


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def _check_limits(token_budget: int, batch_size: int | None) -> None:
    if token_budget < 1:
        raise ValueError(f"token_budget is {token_budget}; it must be at least 1.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1.")
