"""Rounds: a process works on a store and is killed, and what it left is checked; the next round goes on from there."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.faults.checks import ViolationError, check_database, check_search, contents_of, strays
from benchmarks.faults.contents import Contents
from benchmarks.faults.kills import BY_THE_CLOCK, Kill, draw_kill
from benchmarks.faults.operations import Operation, draw_operations
from benchmarks.faults.worker import low_thresholds, one_thread, open_store, work
from benchmarks.stores.worker import ONE_THREAD
from rom_haystack.document_stores import SQLiteFAISSDocumentStore
from rom_haystack.document_stores.settings import DATABASE

#: Where a process is killed that was not called where it was to die, and has done all it had to do.
IDLE = "after its last operation"
_OPERATIONS = 25
# Shares of the rounds that begin with no store, that another process watches, and after which all is renewed.
_ANEW, _WITNESSED, _RENEWED = 0.1, 0.3, 0.25
# Files that one killed process can leave behind: a vector file, an index, and a part of one.
_STRAYS_PER_KILL = 3
_PATIENCE = 60.0


@dataclass
class Round:
    """What happened in a round.

    Attributes:
        number: Its number.
        kill: Where the process was to die.
        operations: What it was to do.
        acknowledged: Number of operations it said it had done.
        place: Where it died.
        cut_off: The operation in flight; None where the process had done all.
        done: Whether that was done all the same.
        documents: Number of documents that were left.
        compared: Documents that were compared with what was written.
        searched: Documents that were searched for one by one.
        strays: Files that nothing needed.
    """

    number: int
    kill: Kill
    operations: Sequence[Operation]
    acknowledged: int = 0
    place: str = ""
    cut_off: Operation | None = None
    done: bool = False
    documents: int = 0
    compared: int = 0
    searched: int = 0
    strays: Sequence[str] = ()


@dataclass
class FaultTest:
    """A store that is worked on and killed, round by round.

    Args:
        folder: An empty folder.
        seed: Seed of all that is drawn; what a kill by the clock hits is the clock's.
        most_documents: About so many documents are in the store at most.
        samples: Documents that are searched for one by one after each kill.
    """

    folder: Path
    seed: int
    most_documents: int = 2000
    samples: int = 25

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._contents: Contents = {}
        self._strays = 0
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["benchmarks.faults.worker"])

    @property
    def store_folder(self) -> Path:
        """Where the store lies."""
        return self.folder / "store"

    @property
    def output(self) -> Path:
        """File with what the last killed process printed."""
        return self.folder / "output.txt"

    def remove(self) -> None:
        """Remove the store and what processes printed."""
        shutil.rmtree(self.folder)

    def begin(self, number: int) -> Round:
        """Draw what happens in a round."""
        rng = np.random.default_rng([self.seed, number])
        if rng.random() < _ANEW:
            shutil.rmtree(self.store_folder, ignore_errors=True)
            self._contents, self._strays = {}, 0
        operations = draw_operations(
            rng,
            self._contents,
            _OPERATIONS,
            first_revision=number * _OPERATIONS,
            most_documents=self.most_documents,
        )
        return Round(number, draw_kill(rng, _OPERATIONS, early=not self.store_folder.exists()), list(operations))

    def run(self, current: Round) -> None:
        """Let a process work, kill it, and check what it left.

        Raises:
            ViolationError: The store does not hold what it must, or can't be used.
        """
        with one_thread():
            try:
                self._run(current)
            except ViolationError:
                raise
            except Exception as error:
                said = "".join(traceback.format_exception(error))
                raise ViolationError(f"the store can't be used: {said}") from error

    def _run(self, current: Round) -> None:
        rng = np.random.default_rng([self.seed, current.number, 1])
        with ExitStack() as stack:
            witness = None
            if self.store_folder.exists() and rng.random() < _WITNESSED:
                witness = stack.enter_context(open_store(self.store_folder))
                self._check(witness, current, [self._contents], rng)
            self._work(current)
            possible = [self._contents]
            for operation in current.operations[: current.acknowledged + 1]:
                possible.append(operation.expected(possible[-1]))
            candidates = [possible[current.acknowledged], possible[-1]]
            if witness is not None:
                candidates = [self._check(witness, current, candidates, rng)]
        with open_store(self.store_folder) as store:
            self._contents = self._check(store, current, candidates, rng)
            self._check_strays(current)
            if rng.random() < _RENEWED:
                self._renew(store, current, rng)
        current.documents = len(self._contents)
        if current.acknowledged < len(current.operations):
            current.cut_off = current.operations[current.acknowledged]
            current.done = self._contents != possible[current.acknowledged]

    def _work(self, current: Round) -> None:
        """Run the process until it dies, and count what it acknowledges."""
        here, there = self._processes.Pipe()
        process = self._processes.Process(
            target=work,
            args=(self.store_folder, self.seed, current.operations, current.kill, there, self.output),
            daemon=True,
        )
        with here:
            with patch.dict(os.environ, ONE_THREAD):  # for the server that processes are forked from
                process.start()
            there.close()
            try:
                _follow(current, here, process.sentinel)
            finally:
                process.kill()
                process.join()
            while _hear(current, here, 0):
                pass
        current.place = current.kill.place if current.acknowledged < len(current.operations) else IDLE
        said = _without_warnings(self.output)
        if process.exitcode != -signal.SIGKILL:
            raise ViolationError(f"the process ended by itself, with {process.exitcode}: {said}")
        if "could not be renewed" in said:
            raise ViolationError(f"upkeep in the background failed: {said}")

    def _check(
        self, store: SQLiteFAISSDocumentStore, current: Round, candidates: Sequence[Contents], rng: np.random.Generator
    ) -> Contents:
        contents = contents_of(store, candidates, self.seed)
        current.compared += len(contents)
        current.searched += check_search(store, contents, self.seed, rng, self.samples)
        return contents

    def _check_strays(self, current: Round) -> None:
        """Check the database, and that the files nothing needs are no more than one killed process can leave."""
        current.strays = strays(self.store_folder, check_database(self.store_folder / DATABASE))
        if len(current.strays) > self._strays + _STRAYS_PER_KILL:
            raise ViolationError(f"one killed process left more than {_STRAYS_PER_KILL} of {current.strays}")
        self._strays = len(current.strays)

    def _renew(self, store: SQLiteFAISSDocumentStore, current: Round, rng: np.random.Generator) -> None:
        """Optimize what a killed process left: nothing may change but the files."""
        with low_thresholds():
            store.optimize()
        self._check(store, current, [self._contents], rng)
        left = strays(self.store_folder, check_database(self.store_folder / DATABASE))
        if left:
            raise ViolationError(f"optimize() left {left}")
        self._strays = 0


def _follow(current: Round, here: Connection, sentinel: int) -> None:
    """Count acknowledgements until the process is dead, has done all, or is to be killed by the clock."""
    clock = current.kill.call if current.kill.place == BY_THE_CLOCK else None
    while current.acknowledged < len(current.operations):
        if current.acknowledged == clock:
            wait([sentinel], current.kill.delay)
            return
        if not _hear(current, here, _PATIENCE):
            return


def _hear(current: Round, here: Connection, patience: float) -> bool:
    """Take an acknowledgement; False if there is none and none will come."""
    if not here.poll(patience):
        if patience:
            raise ViolationError(f"an operation did not end within {patience:g} s")
        return False
    try:
        here.recv_bytes()
    except EOFError:
        return False
    current.acknowledged += 1
    return True


def _without_warnings(output: Path) -> str:
    """Read what a process printed, but for FAISS's complaints that it is trained with few vectors."""
    lines = output.read_text().splitlines() if output.exists() else []
    return "\n".join(line for line in lines if not line.startswith("WARNING clustering"))
