"""Callers in many threads share the calls of one backend."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rom_haystack.inference import coalescing
from rom_haystack.inference.backends.base import Backend, Head, Outputs, TokenIds
from rom_haystack.inference.backends.pytorch import TorchBackend
from rom_haystack.inference.coalescing import Coalescer

PATIENCE = 120  # seconds until a test that hangs fails
INTERRUPTIONS = [KeyboardInterrupt, SystemExit, GeneratorExit]


def job(owner: int, count: int, length: int = 32) -> list[TokenIds]:
    """Inputs of one caller: each begins with its owner's number, and its own."""
    return [
        TokenIds(np.array([owner, number] + [0] * (length - 2)), np.zeros(length, np.int64)) for number in range(count)
    ]


def names(inputs: Sequence[TokenIds]) -> list[tuple[int, int]]:
    return [(int(tokens.input_ids[0]), int(tokens.input_ids[1])) for tokens in inputs]


@dataclass
class Call:
    """One call of a backend, with what it is to raise instead of an answer."""

    inputs: list[tuple[int, int]]
    tokens: int
    head: Head
    batch_size: int | None
    error: BaseException | None = None
    may_end: threading.Event = field(default_factory=threading.Event)

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.may_end.set()


class FakeBackend(Backend):
    """Answers each input with its name; when it is gated, calls wait until the test ends them."""

    name = "fake"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.begun: queue.Queue[Call] = queue.Queue()
        self.gated = True
        self._running = threading.Lock()

    def run(self, inputs: Sequence[TokenIds], head: Head, *, batch_size: int | None = None) -> list[Outputs]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("two calls at once")
        try:
            call = Call(names(inputs), sum(-(-len(tokens) // 32) * 32 for tokens in inputs), head, batch_size)
            self.calls.append(call)
            self.begun.put(call)
            if self.gated and not call.may_end.wait(PATIENCE):
                raise TimeoutError("the test never ended this call")
            if call.error is not None:
                raise call.error
            return [{"embedding": tokens.input_ids[:2].astype(np.float32)} for tokens in inputs]
        finally:
            self._running.release()

    def next_call(self) -> Call:
        return self.begun.get(timeout=PATIENCE)

    def open(self) -> None:
        """End all calls, from now on at once."""
        self.gated = False
        for call in self.calls:
            call.may_end.set()


class Harness:
    """A coalescer over a gated backend, whose callers the test starts one by one."""

    def __init__(self, backend: FakeBackend, waits: threading.Semaphore, token_budget: int) -> None:
        self.backend = backend
        self.coalescer = Coalescer(backend, token_budget=token_budget)
        self._waits = waits

    def start(self, inputs: Sequence[TokenIds], head: Head = "reading", **options: Any) -> Future[list[Outputs]]:
        """Run inputs in a thread of their own."""
        return in_thread(lambda: self.coalescer.run(inputs, head, **options))

    def lead(self, inputs: Sequence[TokenIds], head: Head = "reading", **options: Any) -> tuple[Any, Call]:
        """Start the first caller; return once its first call runs."""
        future = self.start(inputs, head, **options)
        return future, self.backend.next_call()

    def follow(self, inputs: Sequence[TokenIds], head: Head = "reading", **options: Any) -> Future[list[Outputs]]:
        """Start a caller while a call runs; return once it waits."""
        future = self.start(inputs, head, **options)
        assert self._waits.acquire(timeout=PATIENCE)
        return future


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Run in a daemon thread, so that a failing test does not wait for it."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (raised where the result is asked for)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def answers(future: Future[list[Outputs]]) -> list[tuple[int, int]]:
    return [tuple(map(int, output["embedding"])) for output in future.result(PATIENCE)]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released whenever a caller begins to wait."""
    waits = threading.Semaphore(0)

    class Watched(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            waits.release()
            return super().wait(timeout)

    watched = SimpleNamespace(Condition=Watched, Lock=threading.Lock)
    monkeypatch.setattr(coalescing, "threading", watched)
    return waits


@pytest.fixture
def harness(waits: threading.Semaphore) -> Iterator[Callable[[int], Harness]]:
    """Make a harness for a number of inputs (of 32 tokens) per call."""
    backend = FakeBackend()
    yield lambda rows: Harness(backend, waits, 32 * rows)
    backend.open()


# One caller


def test_lone_caller_gets_its_outputs_in_order():
    backend = FakeBackend()
    backend.open()
    outputs = Coalescer(backend, token_budget=96).run(job(1, 7), "retrieval", batch_size=5)
    assert [tuple(output["embedding"]) for output in outputs] == [(1, n) for n in range(7)]
    assert [call.inputs for call in backend.calls] == [
        [(1, 0), (1, 1), (1, 2)],
        [(1, 3), (1, 4), (1, 5)],
        [(1, 6)],
    ]
    assert {(call.head, call.batch_size) for call in backend.calls} == {("retrieval", 5)}


def test_calls_are_longest_first_and_outputs_are_not():
    backend = FakeBackend()
    backend.open()
    inputs = [*job(1, 1, 10), *job(2, 1, 50), *job(3, 1, 30)]
    outputs = Coalescer(backend, token_budget=999).run(inputs, "reading")
    assert backend.calls[0].inputs == [(2, 0), (3, 0), (1, 0)]
    assert [output["embedding"][0] for output in outputs] == [1, 2, 3]


def test_nothing_to_run_calls_nothing():
    backend = FakeBackend()
    assert Coalescer(backend, token_budget=99).run([], "reading") == []
    assert backend.calls == []


def test_padding_counts_and_an_input_over_the_budget_goes_alone():
    backend = FakeBackend()
    backend.open()
    inputs = [*job(1, 4, 33), *job(2, 2, 500), *job(3, 1, 2)]
    Coalescer(backend, token_budget=128).run(inputs, "reading")
    assert [call.inputs for call in backend.calls] == [
        [(1, 0), (1, 1)],
        [(1, 2), (1, 3)],
        [(2, 0)],
        [(2, 1)],
        [(3, 0)],
    ]


def test_budget_below_one():
    with pytest.raises(ValueError, match="token_budget is 0; it must be at least 1"):
        Coalescer(FakeBackend(), token_budget=0)


# Sharing


def test_those_who_wait_share_the_next_call(harness):
    h = harness(8)
    first, call = h.lead(job(1, 3))
    second, third = h.follow(job(2, 2)), h.follow(job(3, 3))
    call.end()
    shared = h.backend.next_call()
    assert shared.inputs == [(2, 0), (3, 0), (2, 1), (3, 1), (3, 2)]
    shared.end()
    assert answers(first) == [(1, 0), (1, 1), (1, 2)]
    assert answers(second) == [(2, 0), (2, 1)]
    assert answers(third) == [(3, 0), (3, 1), (3, 2)]
    assert len(h.backend.calls) == 2


def test_first_caller_does_not_wait_for_those_it_has_nothing_left_with(harness):
    h = harness(8)
    first, call = h.lead(job(1, 3))
    second = h.follow(job(2, 2))
    call.end()
    held = h.backend.next_call()
    assert answers(first) == [(1, 0), (1, 1), (1, 2)]
    assert not second.done()
    held.end()
    assert answers(second) == [(2, 0), (2, 1)]


def test_small_query_behind_a_huge_job_is_in_the_next_call(harness):
    h = harness(10)
    huge, call = h.lead(job(1, 1000))
    small = h.follow(job(2, 3))
    call.end()
    shared = h.backend.next_call()
    assert shared.inputs == [(2, 0), (1, 10), (2, 1), (1, 11), (2, 2), *((1, n) for n in range(12, 17))]
    shared.end()
    assert answers(small) == [(2, 0), (2, 1), (2, 2)]
    assert h.backend.next_call().inputs == [(1, n) for n in range(17, 27)]
    assert not huge.done()
    h.backend.open()
    assert answers(huge) == [(1, n) for n in range(1000)]


def test_callers_take_turns_when_a_call_holds_one_input(harness):
    h = harness(1)
    first, call = h.lead(job(1, 4))
    second, third = h.follow(job(2, 2)), h.follow(job(3, 3))
    call.end()
    for expected in [(2, 0), (3, 0), (1, 1), (2, 1), (3, 1), (1, 2), (3, 2), (1, 3)]:
        call = h.backend.next_call()
        assert call.inputs == [expected]
        call.end()
    assert [len(answers(future)) for future in (first, second, third)] == [4, 2, 3]


def test_whoever_waited_longest_is_next(harness):
    h = harness(1)
    old, call = h.lead(job(0, 5))
    newcomers = []
    owners = [0]
    for number in range(1, 10):  # a newcomer in every call, so that no call is without company
        newcomers.append(h.follow(job(number, 1)))
        call.end()
        call = h.backend.next_call()
        owners.append(call.inputs[0][0])
    assert owners == [0, 1, 0, 2, 3, 0, 4, 5, 6, 0]
    h.backend.open()
    assert answers(old) == [(0, n) for n in range(5)]
    assert [answers(future) for future in newcomers] == [[(number, 0)] for number in range(1, 10)]


def test_what_no_longer_fits_makes_room_for_what_does(harness):
    h = harness(5)
    _, call = h.lead(job(1, 1))
    long, short = h.follow(job(2, 2, 96)), h.follow(job(3, 3))
    call.end()
    shared = h.backend.next_call()
    assert shared.inputs == [(2, 0), (3, 0), (3, 1)]
    shared.end()
    last = h.backend.next_call()
    assert last.inputs == [(2, 1), (3, 2)]
    last.end()
    assert answers(long) == [(2, 0), (2, 1)]
    assert answers(short) == [(3, 0), (3, 1), (3, 2)]


def test_leadership_passes_on_with_work_left(harness):
    h = harness(2)
    first, _ = h.lead(job(1, 1))
    others = [h.follow(job(number, number)) for number in range(2, 8)]
    h.backend.open()
    assert answers(first) == [(1, 0)]
    for number, future in enumerate(others, start=2):
        assert answers(future) == [(number, n) for n in range(number)]
    assert max(len(call.inputs) for call in h.backend.calls) == 2


# Forms


def test_other_heads_and_batch_sizes_come_in_turn(harness):
    h = harness(4)
    reading, call = h.lead(job(1, 20))
    retrieval = h.follow(job(2, 6), "retrieval")
    small_batches = h.follow(job(3, 6), batch_size=2)
    also_reading = h.follow(job(4, 2))
    call.end()
    forms = []
    for _ in range(6):
        call = h.backend.next_call()
        forms.append((call.head, call.batch_size, sorted({owner for owner, _ in call.inputs})))
        call.end()
    assert forms == [
        ("retrieval", None, [2]),
        ("reading", 2, [3]),
        ("reading", None, [1, 4]),
        ("retrieval", None, [2]),
        ("reading", 2, [3]),
        ("reading", None, [1]),
    ]
    assert answers(retrieval) == [(2, n) for n in range(6)]
    assert answers(small_batches) == [(3, n) for n in range(6)]
    assert answers(also_reading) == [(4, n) for n in range(2)]
    h.backend.open()
    assert answers(reading) == [(1, n) for n in range(20)]


# Errors


def test_error_reaches_those_in_the_call_and_no_one_else(harness):
    h = harness(4)
    leader, call = h.lead(job(1, 10))
    companion, other = h.follow(job(2, 10)), h.follow(job(3, 2), "retrieval")
    call.end()
    failing = h.backend.next_call()
    assert {owner for owner, _ in failing.inputs} == {1, 2}
    late = h.follow(job(4, 2))
    failing.end(RuntimeError("out of memory"))
    for future in (leader, companion):
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(PATIENCE)
    h.backend.open()
    assert answers(other) == [(3, 0), (3, 1)]
    assert answers(late) == [(4, 0), (4, 1)]
    assert {owner for call in h.backend.calls[2:] for owner, _ in call.inputs} == {3, 4}


def test_leader_survives_an_error_of_others(harness):
    h = harness(4)
    leader, call = h.lead(job(1, 6))
    other = h.follow(job(2, 1), "retrieval")
    call.end()
    h.backend.next_call().end(KeyError("no head 'retrieval'"))
    with pytest.raises(KeyError, match="no head"):
        other.result(PATIENCE)
    h.backend.open()
    assert answers(leader) == [(1, n) for n in range(6)]


def test_works_on_after_an_error(harness):
    h = harness(4)
    for _ in range(3):
        future, call = h.lead(job(1, 9))
        call.end(RuntimeError("once"))
        with pytest.raises(RuntimeError, match="once"):
            future.result(PATIENCE)
    h.backend.open()
    assert answers(h.start(job(2, 9))) == [(2, n) for n in range(9)]


def test_backend_that_loses_outputs_is_an_error(monkeypatch):
    backend = FakeBackend()
    backend.open()
    monkeypatch.setattr(backend, "run", lambda inputs, head, *, batch_size=None: [{}])
    with pytest.raises(ValueError, match="zip"):
        Coalescer(backend, token_budget=99).run(job(1, 2), "reading")


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interrupted_leader_strands_no_one(harness, interruption):
    h = harness(4)
    leader, call = h.lead(job(1, 10))
    followers = [h.follow(job(number, 5)) for number in (2, 3)]
    call.end()
    h.backend.next_call().end(interruption())
    with pytest.raises(interruption):
        leader.result(PATIENCE)
    h.backend.open()
    for number, future in zip((2, 3), followers, strict=True):
        assert answers(future) == [(number, n) for n in range(5)]
    assert {owner for call in h.backend.calls[2:] for owner, _ in call.inputs} == {2, 3}
    assert answers(h.start(job(9, 1))) == [(9, 0)]


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interruption_while_outputs_are_handed_out_strands_no_one(harness, monkeypatch, interruption):
    h = harness(4)
    leader, call = h.lead(job(1, 5))
    unfinished, done = h.follow(job(3, 9)), h.follow(job(2, 1))

    def interrupt(served):
        monkeypatch.undo()
        raise interruption

    call.end()
    shared = h.backend.next_call()
    assert {owner for owner, _ in shared.inputs} == {1, 2, 3}
    monkeypatch.setattr(h.coalescer, "_requeue", interrupt)
    shared.end()
    with pytest.raises(interruption):
        leader.result(PATIENCE)
    h.backend.open()
    assert answers(done) == [(2, 0)]
    assert answers(unfinished) == [(3, n) for n in range(9)]


def test_interrupted_follower_leaves_and_the_others_stay(harness, monkeypatch):
    h = harness(4)
    leader, call = h.lead(job(1, 6))

    def interrupted(condition, timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coalescing.threading.Condition, "wait", interrupted)
        follower = h.start(job(2, 3))
        with pytest.raises(KeyboardInterrupt):
            follower.result(PATIENCE)
    other = h.follow(job(3, 3))
    h.backend.open()
    assert answers(leader) == [(1, n) for n in range(6)]
    assert answers(other) == [(3, n) for n in range(3)]
    assert call.inputs == [(1, n) for n in range(4)]
    assert not any(owner == 2 for call in h.backend.calls for owner, _ in call.inputs)


def test_follower_interrupted_when_it_is_to_lead_passes_it_on(harness, monkeypatch):
    h = harness(4)
    leader, call = h.lead(job(1, 1))
    wait = coalescing.threading.Condition.wait

    def interrupted_once_woken(condition, timeout=None):
        wait(condition, timeout)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coalescing.threading.Condition, "wait", interrupted_once_woken)
        next_leader = h.follow(job(2, 3))
    other = h.follow(job(3, 3))
    h.backend.open()
    with pytest.raises(KeyboardInterrupt):
        next_leader.result(PATIENCE)
    assert answers(leader) == [(1, 0)]
    assert answers(other) == [(3, n) for n in range(3)]
    assert call.inputs == [(1, 0)]


# Load


def run_together(work: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all at once, each in a thread of its own."""
    barrier = threading.Barrier(len(work))

    def begin(one: Callable[[], Any]) -> Any:
        barrier.wait(PATIENCE)
        return one()

    futures = [in_thread(lambda one=one: begin(one)) for one in work]
    return [future.result(PATIENCE) for future in futures]


@pytest.mark.parametrize("seed", range(5))
def test_many_threads_get_what_they_would_get_alone(seed):
    backend = FakeBackend()
    backend.open()
    coalescer = Coalescer(backend, token_budget=256)

    def caller(number: int) -> None:
        random = np.random.default_rng([seed, number])
        for round_ in range(20):
            inputs = [
                tokens
                for length in random.integers(2, 400, random.integers(0, 12))
                for tokens in job(number, 1, int(length))
            ]
            for index, tokens in enumerate(inputs):
                tokens.input_ids[1] = 100 * round_ + index
            head: Head = ("reading", "retrieval")[random.integers(2)]
            outputs = coalescer.run(inputs, head, batch_size=(None, 4)[random.integers(2)])
            assert [tuple(output["embedding"]) for output in outputs] == names(inputs)

    run_together([lambda number=number: caller(number) for number in range(16)])
    assert all(call.tokens <= 256 or len(call.inputs) == 1 for call in backend.calls)
    seen = [name for call in backend.calls for name in call.inputs]
    assert len(seen) == len(set(seen))


def test_many_threads_on_a_model_score_as_each_alone(tiny_model):
    backend = TorchBackend(tiny_model, pad_token_id=0, max_length=512, token_budget=1024)
    coalescer = Coalescer(backend, token_budget=1024)
    random = np.random.default_rng(3)
    inputs = [
        TokenIds(random.integers(5, 800, n), (np.arange(n) >= n // 3).astype(np.int64))
        for n in map(int, random.integers(3, 200, 60))
    ]
    alone = {head: [backend.run([tokens], head)[0] for tokens in inputs] for head in ("reading", "retrieval")}

    def caller(number: int) -> None:
        random = np.random.default_rng(number)
        for _ in range(3):
            head: Head = ("reading", "reading", "retrieval")[random.integers(3)]
            chosen = random.integers(0, len(inputs), random.integers(1, 9))
            outputs = coalescer.run([inputs[i] for i in chosen], head)
            for index, output in zip(chosen, outputs, strict=True):
                for name, expected in alone[head][index].items():
                    if name == "embedding":
                        np.testing.assert_allclose(output[name], expected, atol=1e-5)
                    else:
                        np.testing.assert_allclose(
                            1 / (1 + np.exp(-0.15 * output[name])), 1 / (1 + np.exp(-0.15 * expected)), atol=1e-4
                        )

    run_together([lambda number=number: caller(number) for number in range(16)])
