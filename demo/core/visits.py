"""Work that someone waits for, and that ends once nobody does."""

import time
from collections.abc import Callable

from demo.core.jobs import CancelledError, Report

#: Seconds for which a visitor may be away, such as to load the page again or to wake up a laptop.
PATIENCE = 120.0


def while_visited(report: Report, visited: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> Report:
    """Let a job end where it reports its progress, once its visitor has been away for long.

    Args:
        report: What the job would report to.
        visited: Tells whether the visitor is there now.
        clock: Tells the seconds.

    Returns:
        What the job is to report to instead.
    """
    seen = clock()

    def report_if_visited(done: int, total: int, label: str) -> None:
        nonlocal seen
        report(done, total, label)
        if visited():
            seen = clock()
        elif clock() - seen > PATIENCE:
            raise CancelledError

    return report_if_visited
