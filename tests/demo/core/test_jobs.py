"""Work in the background."""

from __future__ import annotations

import gc
import threading
import weakref

from demo.core.jobs import CancelledError, Job, Progress

DEADLINE = 60


def test_a_job_reports_and_returns():
    seen, go_on = threading.Event(), threading.Event()

    def work(report):
        report(1, 2, "a.txt")
        seen.set()
        assert go_on.wait(DEADLINE)
        return "outcome"

    job = Job(work, "Working")
    assert seen.wait(DEADLINE)
    assert (job.state, job.progress, job.outcome, job.wait(0)) == ("running", Progress(1, 2, "a.txt"), None, False)
    go_on.set()
    assert job.wait(DEADLINE)
    assert (job.title, job.state, job.outcome, job.error) == ("Working", "done", "outcome", None)


def test_a_job_ends_where_it_reports_next():
    begun, cancelled = threading.Event(), threading.Event()
    after = []

    def work(report):
        begun.set()
        assert cancelled.wait(DEADLINE)
        report(0, 1, "")
        after.append("went on")

    job = Job(work, "Working")
    assert begun.wait(DEADLINE)
    job.cancel()
    cancelled.set()
    assert job.wait(DEADLINE)
    assert (job.state, job.outcome, job.error, after) == ("cancelled", None, None, [])


def test_an_error_is_kept():
    error = OSError("no space")

    def work(_report):
        raise error

    job = Job(work, "Working")
    assert job.wait(DEADLINE)
    assert (job.state, job.error) == ("failed", error)


def test_work_may_be_cancelled_from_within():
    def work(_report):
        raise CancelledError

    job = Job(work, "Working")
    assert job.wait(DEADLINE)
    assert job.state == "cancelled"


def test_a_job_that_has_ended_keeps_nothing_alive():
    class Thing:
        def work(self, _report):
            return 1

    thing = Thing()
    job = Job(thing.work, "Working")
    assert job.wait(DEADLINE)
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None
