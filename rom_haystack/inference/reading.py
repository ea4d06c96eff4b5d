"""From reading logits to ranked answers with exact character offsets.

Nothing here knows the model: windows come in with their logits, answers go out. Every answer obeys the offset law
`passage[answer.start:answer.end] == answer.text`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Scripts written without blanks between words: Thai, Lao, Burmese, Khmer, kana and Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_JOINER = "\u200d"
#: Besides combining marks, what belongs to the character before it: the joiner and the skin tones of emoji.
_MODIFIERS = frozenset(_JOINER + "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")


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
            Minimal R&R (Yang and Seo, 2021): `(1 - w) * span + w * relevance`.
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
class Window:
    """One window of a tokenised pair: where its tokens stand in the passage.

    Attributes:
        offsets: `[length, 2]` character offsets of each token.
        may_start: `[length]`, whether an answer may begin at the token.
        may_end: `[length]`, whether an answer may end at the token.
    """

    offsets: NDArray[np.int64]
    may_start: NDArray[np.bool_]
    may_end: NDArray[np.bool_]


@dataclass(frozen=True)
class Span:
    """A decoded span in token positions, with its score: log-odds of the span against the null position."""

    first: int
    last: int
    score: float


def decode_spans(
    start_logits: NDArray[np.float32],
    end_logits: NDArray[np.float32],
    window: Window,
    *,
    max_answer_length: int,
    count: int,
) -> list[Span]:
    """Find a window's best spans.

    Scores only the band of spans up to `max_answer_length` tokens, not every pair of positions. A span's score is the
    mean of its start and end log-odds against position 0, the null position.

    Args:
        start_logits: `[length]`.
        end_logits: `[length]`.
        window: Which tokens may start and end answers.
        max_answer_length: Tokens of the longest span.
        count: Most spans to return.

    Returns:
        Spans, best first.
    """
    length = len(window.may_start)
    reach = min(max_answer_length, length)
    starts = np.where(window.may_start, start_logits[:length], -np.inf)
    ends = np.full(length + reach - 1, -np.inf)
    ends[:length] = np.where(window.may_end, end_logits[:length], -np.inf)
    band = starts[:, None] + np.lib.stride_tricks.sliding_window_view(ends, reach)
    scores = band.ravel()
    count = min(count, scores.size)
    best = np.argpartition(-scores, count - 1)[:count]
    best = best[np.argsort(-scores[best], kind="stable")]
    null = float(start_logits[0]) + float(end_logits[0])
    spans = []
    for index in best:
        if not math.isfinite(scores[index]):
            break
        first, distance = divmod(int(index), reach)
        spans.append(Span(first, first + distance, (float(scores[index]) - null) / 2))
    return spans


def make_answer(passage: str, window: Window, span: Span, relevance: float, options: ReadingOptions) -> Answer | None:
    """Turn a span into an answer, or None where the span holds nothing but space.

    The span is trimmed of outer white space and completed to whole characters (a combining mark stays with its base).
    """
    start, end = int(window.offsets[span.first, 0]), int(window.offsets[span.last, 1])
    while _splits_character(passage, start):
        start -= 1
    while _splits_character(passage, end):
        end += 1
    while start < end and passage[start].isspace():
        start += 1
    while start < end and passage[end - 1].isspace():
        end -= 1
    if start >= end:
        return None
    weight = options.passage_score_weight
    logit = (1 - weight) * span.score + weight * relevance
    return Answer(start, end, passage[start:end], logit, sigmoid(options.calibration_factor * logit))


def best_answers(answers: Sequence[Answer], options: ReadingOptions) -> list[Answer]:
    """Rank the answers of one passage, drop overlapping ones and keep `answers_per_seq`."""
    kept: list[Answer] = []
    for answer in sorted(answers, key=lambda a: (-a.logit, a.start, a.end)):
        if len(kept) == options.answers_per_seq:
            break
        if not any(_clashes(answer, other, options.overlap_threshold) for other in kept):
            kept.append(answer)
    return kept


def splits_word(text: str, position: int) -> bool:
    """Tell whether a cut at `position` would part a word; in scripts without blanks every character may stand alone.

    Decided by the text, since tokenizers differ in what they call a word (SentencePiece counts punctuation in).
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    return _in_word(before) and _in_word(after) and not (_UNSPACED.match(before) or _UNSPACED.match(after))


def sigmoid(logit: float) -> float:
    """Turn log-odds into a probability, for any finite or infinite value."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else 1 - 1 / (1 + math.exp(logit))


def _clashes(answer: Answer, other: Answer, threshold: float | None) -> bool:
    if (answer.start, answer.end) == (other.start, other.end):
        return True  # the same span, seen in two windows
    if threshold is None:
        return False
    shared = min(answer.end, other.end) - max(answer.start, other.start)
    return shared > threshold * min(answer.end - answer.start, other.end - other.start) and shared > 0


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def _splits_character(text: str, position: int) -> bool:
    """Tell whether a cut at `position` would part what is read as one character."""
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    return before == _JOINER or after in _MODIFIERS or unicodedata.category(after).startswith("M")
