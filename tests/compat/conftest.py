"""Fixtures for the tests of Haystack 1.x's names."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rom_haystack.compat import DensePassageRetriever, FAISSDocumentStore, FARMReader, InMemoryDocumentStore, arguments


@pytest.fixture(params=[InMemoryDocumentStore, FAISSDocumentStore], ids=lambda cls: cls.__name__)
def store_class(request):
    return request.param


@pytest.fixture
def store(store_class):
    """An empty store of either kind."""
    return store_class(progress_bar=False)


@pytest.fixture
def retriever(tiny_checkpoint: Path):
    """A retriever with the tiny model and without store."""
    model = str(tiny_checkpoint)
    retriever = DensePassageRetriever(None, model, model, use_gpu=False, progress_bar=False)
    yield retriever
    retriever.close()


@pytest.fixture
def reader(tiny_checkpoint: Path):
    reader = FARMReader(str(tiny_checkpoint), use_gpu=False)
    yield reader
    reader.close()


@pytest.fixture
def dicts():
    return [
        {
            "content": "Radium glows in the dark. Marie Curie found it in 1898.",
            "meta": {"name": "Radium", "year": 1898},
        },
        {"content": "Mount Everest stands 8849 metres high.", "meta": {"name": "Everest", "year": 1953}},
        {"content": "The Nile flows north. Its delta lies in Egypt.", "meta": {"name": "The Nile"}},
    ]


class Alike:
    """Compares answers with the like of them: scores may differ in their last digits."""

    def __init__(self, nested) -> None:
        self.nested = nested

    def __eq__(self, other) -> bool:
        return self._alike(self.nested, other.nested if isinstance(other, Alike) else other)

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self.nested)

    def _alike(self, one, other) -> bool:
        if isinstance(one, list):
            return len(one) == len(other) and all(map(self._alike, one, other))
        if isinstance(one, float):
            return one == pytest.approx(other, abs=1e-5)
        return replace(one, score=None) == replace(other, score=None) and self._alike(one.score, other.score)


@pytest.fixture
def alike():
    return Alike


class Counted:
    """Embeds a document as the vector [number of its letters, 1, 0, …], so that tests know what to expect."""

    def __init__(self, dim: int = 4) -> None:
        self.dim = dim
        self.seen: list[str] = []

    def embed_documents(self, documents):
        self.seen += [document.content for document in documents]
        rows = [[len(document.content), 1.0] + [0.0] * (self.dim - 2) for document in documents]
        return np.array(rows, dtype=np.float32)


@pytest.fixture
def counted():
    return Counted


@pytest.fixture
def warnings_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """The warnings logged so far, with nothing warned of before the test."""
    monkeypatch.setattr(arguments, "_warned", set())
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
