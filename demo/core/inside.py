"""What happened while a question was answered: what was found, how it was read, and how long each step took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from demo.core.encoders import encoder_at_work
from demo.core.results import Result, Stage
from demo.core.wording import title_of
from rom_haystack.inference import TokenProbabilities
from rom_haystack.inference.reading import sigmoid


@dataclass(frozen=True)
class FoundRow:
    """A passage in the list of those that were found.

    Attributes:
        rank: Its place, from 1.
        keyword_rank: Its place in the keyword search; None where that did not find it, or was not asked.
        dense_rank: The same in the dense search.
        score: By which it was ranked.
        title: Its document's title.
        relevance: Probability that it answers the question, by the reader; None where the reader doesn't tell.
        was_read: Whether it was read for the answer.
        quotes: How many of the answers stand in it.
        text: The passage.
    """

    rank: int
    keyword_rank: int | None
    dense_rank: int | None
    score: float
    title: str
    relevance: float | None
    was_read: bool
    quotes: int
    text: str


@dataclass(frozen=True)
class StageTime:
    """How long a step took.

    Attributes:
        stage: The step.
        milliseconds: Its time.
        share: Its share of all, from 0 to 1.
    """

    stage: Stage
    milliseconds: float
    share: float


@dataclass(frozen=True)
class PassageReading:
    """A passage as the model read it.

    Attributes:
        tokens: Where the answer may begin and end.
        relevance: Probability that the passage answers the question; None where the reader doesn't tell.
        engine: What the model ran on.
    """

    tokens: TokenProbabilities
    relevance: float | None
    engine: str


def read_passages(result: Result) -> list[PassageReading]:
    """Read all passages that were found once more, and keep the probabilities of every token.

    Args:
        result: The question and what was found.

    Returns:
        One reading per passage, in their order.
    """
    texts = [found.document.content or "" for found in result.passages]
    with encoder_at_work(result.settings.reader) as encoder:
        read = encoder.token_probabilities([result.question] * len(texts), texts)
        tells, engine = encoder.facts.has_relevance, encoder.backend_name
    return [PassageReading(tokens, sigmoid(tokens.relevance) if tells else None, engine) for tokens in read]


def found_rows(result: Result, readings: Sequence[PassageReading]) -> list[FoundRow]:
    """List the passages that were found, best first.

    Args:
        result: What was found.
        readings: One per passage.
    """
    quoted = [quote.passage.document.id for quote in result.quotes]
    return [
        FoundRow(
            rank=rank,
            keyword_rank=found.keyword_rank,
            dense_rank=found.dense_rank,
            score=found.score,
            title=title_of(found.document),
            relevance=reading.relevance,
            was_read=rank <= result.read,
            quotes=quoted.count(found.document.id),
            text=found.document.content or "",
        )
        for rank, (found, reading) in enumerate(zip(result.passages, readings, strict=True), start=1)
    ]


def stage_times(result: Result) -> list[StageTime]:
    """List the steps that were taken, in their order, with their times."""
    seconds = {stage: result.seconds[stage] for stage in get_args(Stage) if stage in result.seconds}
    total = sum(seconds.values()) or 1.0
    return [StageTime(stage, 1000 * taken, taken / total) for stage, taken in seconds.items()]
