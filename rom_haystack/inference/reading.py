"""From decoded spans to ranked answers with exact character offsets.

Nothing here knows the model: windows come in with their spans, answers go out. Every answer obeys the offset law
`passage[answer.start:answer.end] == answer.text`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rom_haystack.inference.quotes import quote_bounds
from rom_haystack.inference.spans import Spans
from rom_haystack.inference.tokenization import Window


@dataclass(frozen=True)
class ReadingOptions:
    """How pairs are cut into windows and how spans are decoded and scored.

    Args:
        max_seq_length: Tokens per window, query included.
        stride: Tokens that neighbouring windows of one passage share.
        max_query_length: Tokens of the query that are kept.
        max_answer_length: Tokens of the longest answer.
        answers_per_seq: Most answers per passage.
        passage_score_weight: Weight of the passage's relevance against the span's own score, from 0 to 1, as in
            Minimal R&R (Yang and Seo, 2021): `(1 - w) * span + w * relevance`. At 1 the spans of a passage stand in
            the order of their own scores, as in DPR.
        calibration_factor: Multiplies the combined log-odds before they become a probability. The default fits the
            bundled checkpoint on retrieved passages (`python -m training evaluate` prints the best factor).
        overlap_threshold: Of two answers of one passage, the lower is dropped if they share more than this fraction
            of either; None keeps both.
        max_batch_size: Most windows per forward pass; None leaves it to the token budget.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    max_seq_length: int = 384
    stride: int = 128
    max_query_length: int = 64
    max_answer_length: int = 30
    answers_per_seq: int = 20
    passage_score_weight: float = 0.5
    calibration_factor: float = 0.15
    overlap_threshold: float | None = 0.01
    max_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_query_length", "max_answer_length", "answers_per_seq"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        room = self.max_seq_length - self.max_query_length - 4  # up to four special tokens
        if room < 1:
            raise ValueError(
                f"max_seq_length is {self.max_seq_length} and max_query_length {self.max_query_length}: no room is "
                "left for the passage. Raise the one or lower the other."
            )
        if not 0 <= self.stride < room:
            raise ValueError(f"stride is {self.stride}; it must be from 0 to {room - 1} with these lengths.")
        if not 0 <= self.passage_score_weight <= 1:
            raise ValueError(f"passage_score_weight is {self.passage_score_weight}; it must be from 0 to 1.")
        if not self.calibration_factor > 0:
            raise ValueError(f"calibration_factor is {self.calibration_factor}; it must be above 0.")
        if self.max_batch_size is not None and self.max_batch_size < 1:
            raise ValueError(f"max_batch_size is {self.max_batch_size}; it must be at least 1.")


@dataclass(frozen=True)
class Answer:
    """A quote from a passage.

    Attributes:
        start: First character in the passage.
        end: Character after the last.
        text: `passage[start:end]`.
        logit: Combined log-odds that the span answers the query; comparable across passages.
        score: The same as a probability, from 0 to 1.
    """

    start: int
    end: int
    text: str
    logit: float
    score: float


@dataclass(frozen=True)
class ReadWindow:
    """One window of a passage, read.

    Attributes:
        window: Where its tokens stand in the passage.
        spans: Its best spans.
        relevance: Log-odds that it answers the query at all.
    """

    window: Window
    spans: Spans
    relevance: float


def best_answers(passage: str, windows: Sequence[ReadWindow], options: ReadingOptions) -> list[Answer]:
    """Turn the spans of one passage into answers, best first, until there are `answers_per_seq`.

    Spans are completed to whole characters and trimmed of outer white space. Of overlapping ones the best is kept.

    Args:
        passage: The text.
        windows: All windows of the passage, at least one.
        options: How to score and how many to keep.
    """
    kept: list[tuple[int, int]] = []
    answers = []
    for logit, start, end in _candidates(passage, windows, options.passage_score_weight):
        if len(kept) == options.answers_per_seq:
            break
        if start < end and not _clashes(start, end, kept, options.overlap_threshold):
            kept.append((start, end))
            score = sigmoid(options.calibration_factor * logit)
            answers.append(Answer(start, end, passage[start:end], logit, score))
    return answers


def sigmoid(logit: float) -> float:
    """Turn log-odds into a probability, for any finite or infinite value."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))


def _candidates(passage: str, windows: Sequence[ReadWindow], weight: float) -> Iterator[tuple[float, int, int]]:
    """Give all spans as log-odds, start and end, best first; one of mere space is empty.

    Of equals the one with the better score of its own comes first, then the earlier.
    """
    scores = np.concatenate([read.spans.score for read in windows])
    logits = np.concatenate([(1 - weight) * read.spans.score + weight * read.relevance for read in windows])
    starts = np.concatenate([read.window.offsets[read.spans.first, 0] for read in windows])
    ends = np.concatenate([read.window.offsets[read.spans.last, 1] for read in windows])
    starts, ends = quote_bounds(passage, starts, ends)
    order = np.lexsort((ends, starts, -scores, -logits))
    return zip(logits[order].tolist(), starts[order].tolist(), ends[order].tolist(), strict=True)


def _clashes(start: int, end: int, kept: Sequence[tuple[int, int]], threshold: float | None) -> bool:
    """Tell whether a span is, or shares too much with, one that is kept."""
    for other_start, other_end in kept:
        if start >= other_end or other_start >= end:
            continue
        if (start, end) == (other_start, other_end):
            return True  # seen in two windows
        shared = min(end, other_end) - max(start, other_start)
        if threshold is not None and shared > threshold * min(end - start, other_end - other_start):
            return True
    return False
