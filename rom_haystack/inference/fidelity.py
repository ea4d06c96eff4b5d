"""How true an engine is to the reference, and how fast: both measured side by side on the same texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from rom_haystack.inference.reading import Answer, ReadingOptions
from rom_haystack.inference.samples import Sample
from rom_haystack.metrics import exact_match, f1

if TYPE_CHECKING:
    from rom_haystack.inference.encoder import ROMEncoder

#: Least mean cosine between the embeddings of a faithful engine and the reference's.
MIN_COSINE = 0.999
#: Least share of passages in which a faithful engine finds the reference's answer, to the character.
MIN_SPAN_AGREEMENT = 0.98

#: Passages embedded in one go: as many as an embedder's batch has by default.
_EMBEDDED_TOGETHER = 32
#: Passages compared in `top_overlap`.
_TOP = 10

_Name = TypeVar("_Name")
_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")
#: Queries and as many passages.
_Pairs = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Fidelity:
    """One engine against the reference (torch in float32).

    Attributes:
        cosine_mean: Mean cosine between both embeddings of a text.
        cosine_min: The least of them.
        top_overlap: Mean share of a question's ten nearest passages that both have.
        span_agreement: Share of the (question, passage) pairs whose best answer is the same span.
        exact_match: Share of the questions answered right, from 0 to 1.
        f1: Mean token overlap with the right answers, from 0 to 1.
        reference_exact_match: The reference's.
        reference_f1: The reference's.
        tokens_per_second: Tokens embedded and read, padding not counted.
        reference_tokens_per_second: The reference's, in the same run, in turn.
    """

    cosine_mean: float
    cosine_min: float
    top_overlap: float
    span_agreement: float
    exact_match: float
    f1: float
    reference_exact_match: float
    reference_f1: float
    tokens_per_second: float
    reference_tokens_per_second: float

    @property
    def faithful(self) -> bool:
        """Whether the engine may stand in for the reference unasked."""
        return self.cosine_mean >= MIN_COSINE and self.span_agreement >= MIN_SPAN_AGREEMENT

    @property
    def speedup(self) -> float:
        """How many times as fast as the reference."""
        return self.tokens_per_second / self.reference_tokens_per_second

    @property
    def f1_change(self) -> float:
        """The engine's F1 less the reference's."""
        return self.f1 - self.reference_f1

    @property
    def exact_match_change(self) -> float:
        """The engine's exact match less the reference's."""
        return self.exact_match - self.reference_exact_match


@dataclass
class _Outcome:
    """What one engine made of the sample, and the seconds that each piece of the work took."""

    passages: NDArray[np.float32]
    questions: NDArray[np.float32]
    answers: list[list[Answer]]
    seconds: list[float]


def compare(
    reference: ROMEncoder, engines: Mapping[_Name, ROMEncoder], sample: Sample, *, passages_per_question: int = 5
) -> dict[_Name, Fidelity]:
    """Measure engines against a reference, all on the same pieces of work in turn.

    Args:
        reference: The model in torch and float32.
        engines: The same model in other engines, by any name.
        sample: What to embed, to search and to read.
        passages_per_question: Of how many passages each question is read, nearest first by the reference.

    Returns:
        A `Fidelity` for each of `engines`.
    """
    encoders = [reference, *engines.values()]
    outcomes = _embedded(encoders, sample)
    pairs = _pairs(sample, _nearest(outcomes[0], passages_per_question))
    _read(encoders, outcomes, pairs)
    tokens = _token_counts(reference, sample, pairs)
    return {
        name: _fidelity(outcomes[0], outcome, sample, tokens)
        for name, outcome in zip(engines, outcomes[1:], strict=True)
    }


def _embedded(encoders: Sequence[ROMEncoder], sample: Sample) -> list[_Outcome]:
    limit = encoders[0].max_length
    passages, seconds = _in_turn(
        encoders, _batches(sample.passages), lambda e, texts: e.encode_passages(texts, max_length=min(256, limit))
    )
    questions = [question.text for question in sample.questions]
    return [
        _Outcome(np.concatenate(vectors), encoder.encode_queries(questions, max_length=min(64, limit)), [], times)
        for encoder, vectors, times in zip(encoders, passages, seconds, strict=True)
    ]


def _read(encoders: Sequence[ROMEncoder], outcomes: Sequence[_Outcome], pairs: Sequence[_Pairs]) -> None:
    options = _reading_options(encoders[0].max_length)
    answers, seconds = _in_turn(encoders, pairs, lambda e, piece: e.read(*piece, options))
    for outcome, found, times in zip(outcomes, answers, seconds, strict=True):
        outcome.answers = [best for piece in found for best in piece]
        outcome.seconds += times


def _in_turn(
    encoders: Sequence[ROMEncoder], pieces: Iterable[_Piece], work: Callable[[ROMEncoder, _Piece], _Result]
) -> tuple[list[list[_Result]], list[list[float]]]:
    """Give every engine each piece of work, each time another one first; also return the seconds of each."""
    results: list[list[_Result]] = [[] for _ in encoders]
    seconds: list[list[float]] = [[] for _ in encoders]
    for number, piece in enumerate(pieces):
        for turn in range(len(encoders)):
            index = (number + turn) % len(encoders)
            start = time.perf_counter()
            results[index].append(work(encoders[index], piece))
            seconds[index].append(time.perf_counter() - start)
    return results, seconds


def _batches(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _EMBEDDED_TOGETHER] for start in range(0, len(texts), _EMBEDDED_TOGETHER)]


def _nearest(outcome: _Outcome, count: int) -> NDArray[np.int64]:
    """Find each question's nearest passages, `[questions, count]`."""
    return np.argsort(-outcome.questions @ outcome.passages.T, axis=1, kind="stable")[:, :count]


def _pairs(sample: Sample, nearest: NDArray[np.int64]) -> list[_Pairs]:
    """Put each question together with its nearest passages."""
    return [
        ([question.text] * len(places), [sample.passages[i] for i in places])
        for question, places in zip(sample.questions, nearest, strict=True)
    ]


def _token_counts(encoder: ROMEncoder, sample: Sample, pairs: Sequence[_Pairs]) -> list[int]:
    """Count the tokens of each piece of work; afterwards, so that no engine finds its texts tokenised."""
    options = _reading_options(encoder.max_length)
    tokenizer = encoder.tokenizer
    embedded = [tokenizer.singles(texts, min(256, encoder.max_length)) for texts in _batches(sample.passages)]
    lengths = ("max_seq_length", "stride", "max_query_length")
    read = [tokenizer.pairs(*piece, **{name: getattr(options, name) for name in lengths}).tokens for piece in pairs]
    return [sum(map(len, piece)) for piece in [*embedded, *read]]


def _reading_options(max_length: int) -> ReadingOptions:
    """Read as by default, or in shorter windows where the model takes fewer tokens."""
    window = min(ReadingOptions.max_seq_length, max_length)
    query = min(ReadingOptions.max_query_length, window // 4)
    stride = min(ReadingOptions.stride, (window - query) // 4)
    return ReadingOptions(max_seq_length=window, max_query_length=query, stride=stride)


def _fidelity(reference: _Outcome, engine: _Outcome, sample: Sample, tokens: Sequence[int]) -> Fidelity:
    cosines = np.concatenate(
        [_cosines(reference.passages, engine.passages), _cosines(reference.questions, engine.questions)]
    )
    exact, overlap = _scores(engine, sample)
    reference_exact, reference_overlap = _scores(reference, sample)
    return Fidelity(
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        top_overlap=_shared(_nearest(reference, _TOP), _nearest(engine, _TOP)),
        span_agreement=mean(
            _span(one) == _span(other) for one, other in zip(reference.answers, engine.answers, strict=True)
        ),
        exact_match=exact,
        f1=overlap,
        reference_exact_match=reference_exact,
        reference_f1=reference_overlap,
        tokens_per_second=_pace(engine, tokens),
        reference_tokens_per_second=_pace(reference, tokens),
    )


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.maximum(norms, 1e-12))


def _shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return mean(len(set(a) & set(b)) / len(a) for a, b in zip(one.tolist(), other.tolist(), strict=True))


def _span(answers: Sequence[Answer]) -> tuple[int, int] | None:
    return (answers[0].start, answers[0].end) if answers else None


def _scores(outcome: _Outcome, sample: Sample) -> tuple[float, float]:
    """Exact match and F1 of each question's best answer from the passages that were read."""
    width = len(outcome.answers) // len(sample.questions)
    exact, overlap = [], []
    for number, question in enumerate(sample.questions):
        found = [answers[0] for answers in outcome.answers[number * width : (number + 1) * width] if answers]
        best = max(found, key=lambda answer: answer.logit).text if found else ""
        exact.append(exact_match(best, [question.answer]))
        overlap.append(f1(best, [question.answer]))
    return mean(exact), mean(overlap)


def _pace(outcome: _Outcome, tokens: Sequence[int]) -> float:
    """Tokens per second; by the median, as what happens once (preparing for a new length, say) should not count."""
    return 1 / median(seconds / count for seconds, count in zip(outcome.seconds, tokens, strict=True))
