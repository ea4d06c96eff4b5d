"""Fixtures of the server's tests: a small library of a tiny model, and who answers from it."""

from contextlib import contextmanager

import pytest

from rom_haystack.library import Library
from rom_haystack.serving.limits import Limits
from rom_haystack.serving.service import QuestionService

TEXTS = {
    "heron.md": "# Heron\n\nThe heron waits beside the river. It eats fish.",
    "owl.txt": "The owl hunts at night.",
    "rivers.txt": "Rivers flow to the sea.",
}


@contextmanager
def service_in(place, model):
    """Make documents, their index, and a service that answers from it."""
    (place / "docs").mkdir()
    for name, text in TEXTS.items():
        (place / "docs" / name).write_text(text)
    with Library(place / "docs", index=place / "index", model=str(model)) as library:
        library.update()
        service = QuestionService(library, Limits(top_k=3, passages=2, max_question_length=60))
        yield service
        service.close()


@pytest.fixture
def service(tmp_path, tiny_checkpoint):
    """A service of the test's own, to be warmed up; its documents and index are in `tmp_path`."""
    with service_in(tmp_path, tiny_checkpoint) as service:
        yield service


@pytest.fixture(scope="package")
def shared(tmp_path_factory, tiny_checkpoint):
    """A warm service for all tests that leave its documents and its index as they are."""
    with service_in(tmp_path_factory.mktemp("shared"), tiny_checkpoint) as service:
        service.warm_up()
        yield service
