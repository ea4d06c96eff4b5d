"""From start and end logits to probabilities over the tokens of a passage: what a reader sees, before it decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.backends.base import Outputs
from rom_haystack.inference.tokenization import Window


@dataclass(frozen=True)
class TokenProbabilities:
    """Where in one passage an answer begins and ends, token by token.

    With `null_start` added, `start` adds up to 1, and so does `end` with `null_end`. Where no answer may begin or end,
    inside a word say, the probability is 0. `log(start / null_start)` and `log(end / null_end)` are the log-odds of
    which a span's score in `ROMEncoder.read` is the mean.

    Attributes:
        offsets: `[tokens, 2]` first character of each token in the passage, and the one after its last; in the order of
            the passage, each place once.
        start: `[tokens]` probability that the answer begins at the token.
        end: `[tokens]` probability that the answer ends with the token.
        null_start: Probability that it begins nowhere, by the null position; 0 for a reader that knows none.
        null_end: The same of its end.
        relevance: Log-odds that the passage answers the query at all; minus infinity where it has no tokens.
    """

    offsets: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    null_start: float
    null_end: float
    relevance: float


def token_probabilities(windows: Sequence[Window], outputs: Sequence[Outputs], *, has_null: bool) -> TokenProbabilities:
    """Bring the windows of one passage together.

    Of a token that several windows share, the window counts in which its log-odds are best, as in decoding.

    Args:
        windows: All windows of the passage; none where it has no tokens.
        outputs: Per window, what the reading head said.
        has_null: Whether the reader knows a null position.
    """
    if not windows:
        nothing = np.zeros(0)
        return TokenProbabilities(
            np.zeros((0, 2), np.int64), nothing, nothing, float(has_null), float(has_null), -np.inf
        )
    offsets = np.concatenate([window.offsets for window in windows])
    visible = offsets[:, 0] < offsets[:, 1]
    places, place_of = np.unique(offsets[visible], axis=0, return_inverse=True)
    sides = []
    for logits, allowed in (
        ("start_logits", [window.may_start for window in windows]),
        ("end_logits", [window.may_end for window in windows]),
    ):
        log_odds = np.concatenate([output[logits].astype(np.float64) - output[logits][0] for output in outputs])
        best = np.full(len(places), -np.inf)
        np.maximum.at(best, place_of, np.where(np.concatenate(allowed), log_odds, -np.inf)[visible])
        sides.append(_softmax(best, has_null=has_null))
    (start, null_start), (end, null_end) = sides
    relevance = max(float(output["relevance_logits"]) for output in outputs)
    return TokenProbabilities(places, start, end, null_start, null_end, relevance)


def _softmax(log_odds: NDArray[np.float64], *, has_null: bool) -> tuple[NDArray[np.float64], float]:
    """Turn log-odds against the null position into probabilities, and that of the null position."""
    logits = np.append(log_odds, 0.0 if has_null else -np.inf)
    highest = logits.max()
    if np.isneginf(highest):  # no answer may begin anywhere, and the reader knows no other place
        return np.zeros_like(log_odds), 0.0
    weights = np.exp(logits - highest)
    weights /= weights.sum()
    return weights[:-1], float(weights[-1])
