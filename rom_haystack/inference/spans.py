"""From start and end logits to a window's best spans, for many windows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.tokenization import Window

#: Most spans scored at once, 8 bytes each: few enough to stay in the CPU's cache, however many windows there are.
_SPANS_AT_ONCE = 120_000


@dataclass(frozen=True)
class Spans:
    """Spans of one window, best first.

    Attributes:
        first: `[spans]` position of each span's first token in the window.
        last: `[spans]` position of its last token.
        score: `[spans]` log-odds of the span against the null position.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def decode_spans(
    start_logits: Sequence[NDArray[np.float32]],
    end_logits: Sequence[NDArray[np.float32]],
    windows: Sequence[Window],
    *,
    max_answer_length: int,
    count: int,
) -> list[Spans]:
    """Find the best spans of each window.

    Scores only the band of spans up to `max_answer_length` tokens, not every pair of positions, and windows of similar
    length together. A span's score is the mean of its start and end log-odds against position 0, the null position. Of
    equal scores the earlier span comes first, so a window's spans don't depend on the other windows.

    Args:
        start_logits: Per window, `[length]`.
        end_logits: Per window, `[length]`.
        windows: Which tokens may start and end answers.
        max_answer_length: Tokens of the longest span.
        count: Most spans per window.

    Returns:
        One `Spans` per window, in their order.
    """
    found: dict[int, Spans] = {}
    for group in _groups([len(window.may_start) for window in windows], max_answer_length):
        starts = _masked([(start_logits[i], windows[i].may_start) for i in group])
        ends = _masked([(end_logits[i], windows[i].may_end) for i in group])
        nulls = np.array([float(start_logits[i][0]) + float(end_logits[i][0]) for i in group])
        found.update(zip(group, _best(starts, ends, nulls, max_answer_length, count), strict=True))
    return [found[index] for index in range(len(windows))]


def _groups(lengths: Sequence[int], max_answer_length: int) -> list[list[int]]:
    """Group windows of similar length, longest first, each group within the limit on spans (or a single window)."""
    groups: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not room:
            groups.append([])
            room = max(1, _SPANS_AT_ONCE // (lengths[index] * min(max_answer_length, lengths[index])))
        groups[-1].append(index)
        room -= 1
    return groups


def _masked(rows: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> NDArray[np.float64]:
    """Stack logits to `[windows, longest]`, minus infinity where there may be no answer, and beyond each row's end."""
    stacked = np.full((len(rows), max(len(mask) for _, mask in rows)), -np.inf)
    for row, (logits, mask) in zip(stacked, rows, strict=True):
        np.copyto(row[: len(mask)], logits[: len(mask)], where=mask)
    return stacked


def _best(
    starts: NDArray[np.float64], ends: NDArray[np.float64], nulls: NDArray[np.float64], reach: int, count: int
) -> list[Spans]:
    """Find the best spans of each row of `[windows, length]` logits."""
    windows, length = starts.shape
    reach = min(reach, length)
    ends = np.pad(ends, ((0, 0), (0, reach - 1)), constant_values=-np.inf)
    band = starts[:, :, None] + np.lib.stride_tricks.sliding_window_view(ends, reach, axis=1)
    scores = band.reshape(windows, length * reach)  # span (first, last) at first * reach + last - first
    worst = max(0, scores.shape[1] - count)
    least = np.partition(scores, worst, axis=1)[:, worst, None]
    rows, spans = np.nonzero((scores >= least) & np.isfinite(scores))
    values = scores[rows, spans]
    order = np.lexsort((-values, rows))  # stable: of equal scores the earlier span first
    rows, spans, scores = rows[order], spans[order], (values[order] - nulls[rows[order]]) / 2
    bounds = np.searchsorted(rows, np.arange(windows + 1)).tolist()
    first, distance = np.divmod(spans, reach)
    last = first + distance
    kept = (slice(begin, min(begin + count, end)) for begin, end in pairwise(bounds))
    return [Spans(first[place], last[place], scores[place]) for place in kept]
