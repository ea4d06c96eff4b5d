"""Work ends once nobody waits for it."""

import pytest

from demo.core.jobs import CancelledError
from demo.core.visits import PATIENCE, while_visited


def test_work_goes_on_through_short_absences_and_ends_after_a_long_one():
    now, there, told = [0.0], [True], []
    report = while_visited(lambda *progress: told.append(progress), lambda: there[0], lambda: now[0])
    report(1, 9, "a")
    there[0] = False
    now[0] = PATIENCE
    report(2, 9, "b")
    there[0] = True
    now[0] = 2 * PATIENCE
    report(3, 9, "c")
    there[0] = False
    now[0] = 3 * PATIENCE
    report(4, 9, "d")
    now[0] += 1
    with pytest.raises(CancelledError):
        report(5, 9, "e")
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5]
