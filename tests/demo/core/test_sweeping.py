"""Unsaved documents go soon after their session."""

from __future__ import annotations

import gc
import weakref

import pytest

from demo.core.shelf import session_collection
from demo.core.sweeping import Sweeper
from demo.core.visits import PATIENCE


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_documents_go_when_their_session_has_been_away_for_long(clock):
    sweeper = Sweeper(clock)
    left, back = session_collection(), session_collection()
    there = {"left": True, "back": True}
    sweeper.watch(left, lambda: there["left"])
    sweeper.watch(back, lambda: there["back"])
    (left.folder / "owl.txt").write_bytes(b"The owl hunts at night.")
    for now, present in ((1000, (True, True)), (1000 + PATIENCE, (False, False)), (1100 + PATIENCE, (False, True))):
        clock.now = now
        there["left"], there["back"] = present
        sweeper.sweep()
    assert not left.home.exists()
    assert back.folder.is_dir()
    clock.now += 1000
    there["back"] = False
    sweeper.sweep()
    sweeper.sweep()
    assert not back.home.exists()


def test_nothing_is_kept_alive(clock):
    sweeper = Sweeper(clock)
    drafts = session_collection()
    known = weakref.ref(drafts)
    sweeper.watch(drafts, lambda: True)
    sweeper.sweep()
    del drafts
    gc.collect()
    assert known() is None
    sweeper.sweep()
