"""Whatever kills a process that works on a store: what it acknowledged is there, and nothing is half-there."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.kills import Kill, Moment
from benchmarks.faults.operations import Delete, DeleteAll, DeleteGroup, MarkGroup, Operation, Optimize, Write
from benchmarks.faults.rounds import IDLE, FaultTest, Round

SEED = 13
NEVER = Kill("training", 9, "before", 0)
FIRST = Write(tuple((number, 0) for number in range(60)), "fail")


def test_a_store_survives_one_kill_after_the_other(tmp_path: Path) -> None:
    test = FaultTest(tmp_path, SEED, most_documents=600, samples=8)
    done = []
    for number in range(12):
        done.append(test.begin(number))
        test.run(done[-1])
    assert len({current.place for current in done} - {IDLE}) >= 4
    assert len({type(current.cut_off) for current in done} - {type(None)}) >= 3
    assert sum(current.acknowledged for current in done) > 50
    assert sum(current.compared for current in done) > 1000


@pytest.mark.parametrize(("moment", "done"), [("before", False), ("after", True)])
@pytest.mark.parametrize(
    "operation",
    [
        Write(tuple((number, 1) for number in range(40, 90)), "overwrite"),
        Delete(tuple(range(0, 60, 2))),
        DeleteGroup(3),
        MarkGroup(3, "mark1"),
        DeleteAll(),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_an_operation_is_done_as_soon_as_it_is_committed(
    tmp_path: Path, operation: Operation, moment: Moment, done: bool
) -> None:
    test = FaultTest(tmp_path, SEED, samples=8)
    test.run(Round(0, NEVER, [FIRST]))
    current = Round(1, Kill("committing", 1, moment, 0), [operation])
    test.run(current)
    assert (current.place, current.cut_off, current.done) == ("committing", operation, done)


@pytest.mark.parametrize(
    "place", ["beginning a generation", "rebuilding keywords", "writing vectors", "removing a file"]
)
def test_compaction_changes_no_document_wherever_it_ends(tmp_path: Path, place: str) -> None:
    test = FaultTest(tmp_path, SEED, samples=8)
    test.run(Round(0, NEVER, [FIRST, Delete(tuple(range(30)))]))
    current = Round(1, Kill(place, 1, "after", 0), [Optimize()])
    test.run(current)
    assert (current.place, current.documents) == (place, 30)


@pytest.mark.parametrize(
    "kill",
    [
        Kill("an SQL statement", 9, "after", 0),
        Kill("committing", 1, "after", 0),
        Kill("creating a vector file", 1, "after", 0),  # it is there, but without its header
    ],
    ids=lambda kill: kill.place,
)
def test_a_store_whose_creation_was_cut_off_is_created_at_the_next_opening(tmp_path: Path, kill: Kill) -> None:
    current = Round(0, kill, [FIRST])
    FaultTest(tmp_path, SEED).run(current)
    assert (current.place, current.documents) == (kill.place, 0)
