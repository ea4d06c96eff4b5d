"""The updates of collections, which all sessions share."""

from __future__ import annotations

import threading

import pytest

from demo.core import collection as collection_module
from demo.core.jobs import CancelledError
from demo.core.shelf import Collection, Upload, session_collection
from demo.views.indexing import Updates

OWL = Upload("owl.txt", b"The owl hunts at night.")
HERON = Upload("heron.md", b"The heron waits beside the river.")
DEADLINE = 120


@pytest.fixture(autouse=True)
def tiny(tiny_checkpoint, monkeypatch):
    """All collections use the tiny model."""
    monkeypatch.setattr(Collection.library, "__defaults__", (str(tiny_checkpoint),))
    monkeypatch.setattr(Collection.reindex, "__defaults__", (collection_module.ignore, str(tiny_checkpoint)))


def test_another_model_s_index_follows_a_change_that_failed(tiny_checkpoint, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.symlink_to(tiny_checkpoint)
    collection, updates = session_collection(), Updates()
    collection.add([OWL])
    first = updates.of(collection, str(other))
    assert first.wait(DEADLINE)
    assert updates.of(collection, str(other)) is first

    def update_one(self, report):
        self.library().update(report)
        raise CancelledError

    monkeypatch.setattr(Collection, "_update", update_one)
    with pytest.raises(CancelledError):
        collection.add([HERON])
    again = updates.of(collection, str(other))
    assert again.wait(DEADLINE)
    assert again.outcome is not None
    assert again.outcome.added == ["heron.md"]
    assert updates.of(collection, str(other)) is again


def test_an_update_that_goes_on_is_not_started_again(tiny_checkpoint, monkeypatch):
    go_on = threading.Event()
    reindex = Collection.reindex

    def wait(self, report, model):
        assert go_on.wait(DEADLINE)
        return reindex(self, report, model)

    monkeypatch.setattr(Collection, "reindex", wait)
    collection, updates = session_collection(), Updates()
    first = updates.of(collection, str(tiny_checkpoint))
    assert updates.of(collection, str(tiny_checkpoint), anew=True) is first
    go_on.set()
    assert first.wait(DEADLINE)
    assert updates.of(collection, str(tiny_checkpoint), anew=True) is not first
