"""Which step trains what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.schedules import SCHEDULES, alternating, joint
from training.tasks.base import shuffled_batches

WEIGHTS = {"reading": 3.0, "retrieval": 1.0}


def test_joint_trains_every_task_in_every_step_by_its_weight():
    assert joint(WEIGHTS, 3, 0) == [WEIGHTS] * 3


def test_alternating_trains_one_task_at_full_weight():
    assert all(step in ({"reading": 1.0}, {"retrieval": 1.0}) for step in alternating(WEIGHTS, 50, 0))


def test_alternating_draws_by_weight():
    plan = alternating(WEIGHTS, 4000, 0)
    assert sum("reading" in step for step in plan) / len(plan) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_plans_are_determined_by_the_seed(schedule):
    assert len(schedule(WEIGHTS, 40, 1)) == 40
    assert schedule(WEIGHTS, 40, 1) == schedule(WEIGHTS, 40, 1)
    assert alternating(WEIGHTS, 40, 1) != alternating(WEIGHTS, 40, 2)


@given(st.lists(st.integers(0, 999), max_size=200), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_buckets_hold_every_index_once_and_sort_by_length(lengths, batch_size, bucket, seed):
    lengths = np.array(lengths, dtype=np.int64)
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed), bucket)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all((np.diff(lengths[batch]) >= 0).all() for batch in batches)
    again = shuffled_batches(lengths, batch_size, np.random.default_rng(seed), bucket)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_buckets_pad_less_than_chance():
    lengths = np.random.default_rng(0).integers(10, 500, size=640)

    def padding(batches):
        return sum(len(b) * lengths[b].max() - lengths[b].sum() for b in batches)

    bucketed = shuffled_batches(lengths, 16, np.random.default_rng(1))
    chance = shuffled_batches(lengths, 16, np.random.default_rng(1), bucket=1)
    assert padding(bucketed) < padding(chance) / 4
