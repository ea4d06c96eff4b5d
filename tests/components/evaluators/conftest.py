"""Fixtures for tests of evaluators."""

from __future__ import annotations

import pytest
from haystack import ExtractedAnswer


@pytest.fixture
def answer():
    """Make an answer as a reader gives it: `answer(text, score)`; None for no answer."""

    def make(data: str | None, score: float = 0.5) -> ExtractedAnswer:
        return ExtractedAnswer(query="?", score=score, data=data)

    return make
