"""Passages on a plane: their embeddings' two main directions, with the question among them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from haystack import Document
from numpy.typing import NDArray

from demo.core.engine import Engine
from demo.core.results import Result
from demo.core.wording import title_of
from rom_haystack.document_stores import SQLiteFAISSDocumentStore

#: Most passages on the map, those that were found aside.
SAMPLE = 2000
#: Passages among which the sample is drawn: looking through millions would take minutes.
REACH = 100_000

_BATCH = 1000


class NothingToMapError(ValueError):
    """A collection has no passages."""


@dataclass(frozen=True)
class Plane:
    """The plane through a cloud of points in which it is spread most (principal component analysis).

    Attributes:
        centre: `[dim]`.
        axes: `[2, dim]`, at right angles, each of length 1.
        variance: Share of the points' variance that lies in the plane, from 0 to 1.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    variance: float

    @classmethod
    def through(cls, points: NDArray[np.float64]) -> "Plane":
        """Lay the plane.

        Args:
            points: `[points, dim]`, at least one; `dim` at least 2.
        """
        centre = points.mean(axis=0)
        spread, directions = np.linalg.eigh(np.cov(points - centre, rowvar=False, bias=True))
        axes = directions[:, [-1, -2]].T
        # A direction's sign is arbitrary; this way the map looks the same every time.
        axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
        total = float(spread.sum())
        return cls(centre, axes, float(spread[-2:].sum()) / total if total > 0 else 1.0)

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Put points on the plane: `[points, 2]`."""
        return (points - self.centre) @ self.axes.T


@dataclass(frozen=True)
class Point:
    """A passage on the map.

    Attributes:
        id: The passage's.
        title: Its document's title.
        file: Its file's name.
        text: The passage.
        x: Place along the first direction.
        y: Place along the second.
        rank: Its place among those that were found; None for others.
        quoted: Whether an answer stands in it.
    """

    id: str
    title: str
    file: str
    text: str
    x: float
    y: float
    rank: int | None = None
    quoted: bool = False


@dataclass(frozen=True)
class Survey:
    """A collection's passages on a plane, whatever is asked.

    Attributes:
        plane: The plane.
        points: Passages, all or a sample.
        total: How many passages there are.
    """

    plane: Plane
    points: tuple[Point, ...]
    total: int


@dataclass(frozen=True)
class PassageMap:
    """The survey with a question in it.

    Attributes:
        points: Those of the survey, and all passages that were found.
        x: The question's place along the first direction.
        y: Its place along the second.
    """

    points: tuple[Point, ...]
    x: float
    y: float


def survey(store: SQLiteFAISSDocumentStore, *, sample: int = SAMPLE) -> Survey:
    """Lay the plane through a collection's passages, or through a sample of them that is spread evenly.

    Args:
        store: The passages, with embeddings.
        sample: Most passages.

    Raises:
        NothingToMapError: There are no passages.
    """
    total = store.count_documents()
    documents = _sample(store, total, sample)
    if not documents:
        raise NothingToMapError("There are no passages to map. Add documents first.")
    vectors = _vectors(documents)
    plane = Plane.through(vectors)
    return Survey(plane, _points(documents, plane.place(vectors)), total)


def with_question(surveyed: Survey, store: SQLiteFAISSDocumentStore, result: Result, engine: Engine) -> PassageMap:
    """Put a question, and the passages that were found for it, on a survey.

    Args:
        surveyed: The survey.
        store: The passages.
        result: The question and what was found.
        engine: The models.
    """
    embedded = engine.embedder(result.settings.model).run(result.question)
    question = np.array([embedded["embedding"]], dtype=np.float64)
    ranks = {found.document.id: rank for rank, found in enumerate(result.passages, start=1)}
    quoted = {quote.passage.document.id for quote in result.quotes}
    missing = _with_embeddings(store, [id_ for id_ in ranks if id_ not in {point.id for point in surveyed.points}])
    added = _points(missing, surveyed.plane.place(_vectors(missing))) if missing else ()
    x, y = surveyed.plane.place(question)[0].tolist()
    points = tuple(
        replace(point, rank=ranks.get(point.id), quoted=point.id in quoted) for point in (*surveyed.points, *added)
    )
    return PassageMap(points, x, y)


def _sample(store: SQLiteFAISSDocumentStore, total: int, most: int) -> list[Document]:
    """Read passages with embeddings: all, or as many as wanted at equal distances."""
    if total <= most:
        batches = store.iter_documents(return_embedding=True, batch_size=_BATCH)
        return [document for batch in batches for document in batch]
    batches = store.iter_documents(return_embedding=False, batch_size=_BATCH)
    ids = list(islice((document.id for batch in batches for document in batch), REACH))
    chosen = np.linspace(0, len(ids) - 1, most).astype(int).tolist()
    return _with_embeddings(store, [ids[place] for place in chosen])


def _with_embeddings(store: SQLiteFAISSDocumentStore, ids: Sequence[str]) -> list[Document]:
    if not ids:
        return []
    wanted = {"field": "id", "operator": "in", "value": list(ids)}
    return [document for batch in store.iter_documents(wanted, return_embedding=True) for document in batch]


def _vectors(documents: Sequence[Document]) -> NDArray[np.float64]:
    return np.array([document.embedding for document in documents], dtype=np.float64)


def _points(documents: Sequence[Document], places: NDArray[np.float64]) -> tuple[Point, ...]:
    return tuple(
        Point(
            document.id,
            title_of(document),
            str(document.meta.get("file_path", "")),
            document.content or "",
            x,
            y,
        )
        for document, (x, y) in zip(documents, places.tolist(), strict=True)
    )
