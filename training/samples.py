"""What was measured question by question, and the articles that the questions are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rom_haystack.metrics import Figure, figure
from training.data.dataset import Passage

#: Metric values of single questions, from 0 to 1, by metric name.
Scores = dict[str, NDArray[np.float64]]
#: The articles of questions, by name.
Articles = NDArray[np.str_]


@dataclass(frozen=True)
class Sample:
    """A metric's values of questions, which stand for all questions about such articles.

    Attributes:
        values: From 0 to 1, of differences from -1, `[questions]`.
        articles: What each question is about, `[questions]`; None where that is not known.
    """

    values: NDArray[np.float64]
    articles: Articles | None = None

    def __sub__(self, other: Sample) -> Sample:
        """Return by how much each value is above that of the other sample, which is of the same questions."""
        return Sample(self.values - other.values, self.articles)

    def figure(self, seed: int) -> Figure:
        """Return the mean, with a bootstrap over articles, or over questions where articles are not known."""
        return figure(self.values, seed, groups=self.articles)

    @classmethod
    def mean(cls, samples: Sequence[Sample]) -> Sample:
        """Return each question's mean over samples of the same questions."""
        return cls(np.mean([sample.values for sample in samples], axis=0), samples[0].articles)

    def to_array(self) -> NDArray[Any]:
        """Return one array for a file, with the fields `value` and, where articles are known, `article`."""
        columns: dict[str, NDArray[Any]] = {"value": self.values}
        if self.articles is not None:
            columns["article"] = self.articles
        return np.rec.fromarrays(list(columns.values()), dtype=[(name, of.dtype) for name, of in columns.items()])

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Sample:
        """Return what `to_array` made an array of."""
        return cls(array["value"], array["article"] if "article" in (array.dtype.names or ()) else None)


#: Samples by metric name.
Samples = dict[str, Sample]


def samples_of(scores: Mapping[str, NDArray[np.float64]], articles: Articles | None) -> Samples:
    """Join scores of questions with the questions' articles."""
    return {metric: Sample(values, articles) for metric, values in scores.items()}


def articles_of(passages: Sequence[Passage]) -> Articles | None:
    """Name the articles of questions, by their gold passages.

    Returns:
        `[passages]`: titles; a passage without one is an article of its own. None where no passage has a title.
    """
    return np.array([article(passage) for passage in passages]) if any(p.title for p in passages) else None


def article(passage: Passage) -> str:
    """Name the article that a passage is of, or the passage where it has no title."""
    return passage.title or passage.id


def count_articles(articles: Articles | None) -> int | None:
    """Count the articles; None where they are not known."""
    return None if articles is None else len(np.unique(articles))


def resampled(settings: Mapping[str, Any]) -> str:
    """Say what the bootstrap of an evaluation drew, by the evaluation's settings; it was questions in older ones."""
    count = settings.get("article count") or 0
    return f"articles ({count}; questions where none are known)" if count > 1 else "questions"
