"""Which step trains what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.schedules import SCHEDULES, Mixture, Stage, alternating, annealed, joint, sequential, shares
from training.tasks.base import shuffled_batches

WEIGHTS = {"reading": 3.0, "retrieval": 1.0}
MIXTURE = Mixture(WEIGHTS)
SELF_SUPERVISED = Mixture(
    {"masked_lm": 0.5, "inverse_cloze": 1.0, "reading": 3.0},
    stages=[Stage({"masked_lm": 1.0, "inverse_cloze": 2.0}, share=1.0), Stage({"reading": 1.0, "masked_lm": 0.2}, 3.0)],
)


def test_joint_trains_every_task_in_every_step_by_its_weight():
    assert joint(MIXTURE, 3, 0) == [WEIGHTS] * 3


def test_alternating_trains_one_task_at_full_weight():
    assert all(step in ({"reading": 1.0}, {"retrieval": 1.0}) for step in alternating(MIXTURE, 50, 0))


def test_alternating_draws_by_weight():
    plan = alternating(MIXTURE, 4000, 0)
    assert sum("reading" in step for step in plan) / len(plan) == pytest.approx(0.75, abs=0.03)


def test_a_sampling_rate_leaves_the_weight_to_the_loss():
    plan = alternating(Mixture(WEIGHTS, {"reading": 1.0}), 4000, 0)
    assert Counter(frozenset(step.items()) for step in plan).keys() == {
        frozenset({("reading", 3.0)}),
        frozenset({("retrieval", 1.0)}),
    }
    assert sum("reading" in step for step in plan) / len(plan) == pytest.approx(0.5, abs=0.03)


def test_sequential_trains_stage_after_stage():
    first, second = {"masked_lm": 0.5, "inverse_cloze": 2.0}, {"reading": 3.0, "masked_lm": 0.1}
    assert sequential(SELF_SUPERVISED, 8, 0) == [first] * 2 + [second] * 6
    assert sequential(MIXTURE, 5, 0) == [{"reading": 3.0}] * 2 + [{"retrieval": 1.0}] * 3  # a stage for each task


def test_annealed_drifts_from_stage_to_stage():
    plan = annealed(SELF_SUPERVISED, 800, 0)  # the stages' middles are at 100 and 500
    assert plan[:100] == [{"masked_lm": 0.5, "inverse_cloze": 2.0}] * 100
    assert plan[500:] == [{"masked_lm": pytest.approx(0.1), "reading": 3.0}] * 300
    drifting = plan[100:500]
    assert plan[299] == pytest.approx({"masked_lm": 0.3, "inverse_cloze": 1.0, "reading": 1.5}, rel=0.01)
    for name, sign in (("masked_lm", -1), ("inverse_cloze", -1), ("reading", 1)):
        steps = np.diff([step[name] for step in drifting])
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
        assert np.sign(steps[0]) == sign


def test_annealed_passes_through_every_stage():
    stages = [Stage({"reading": 1.0}), Stage({"retrieval": 1.0}), Stage({"reading": 1.0})]
    plan = annealed(Mixture({"reading": 1.0, "retrieval": 1.0}, stages=stages), 300, 0)
    assert [set(plan[step]) for step in (0, 75, 149, 225, 299)] == [
        {"reading"},
        {"reading", "retrieval"},
        {"reading", "retrieval"},
        {"reading", "retrieval"},
        {"reading"},
    ]
    assert plan[149]["retrieval"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("mixture", [MIXTURE, SELF_SUPERVISED], ids=["plain", "stages"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_plans_are_determined_by_the_seed(schedule, mixture):
    for steps in (1, 2, 3, 7, 40):
        plan = schedule(mixture, steps, 1)
        assert len(plan) == steps
        assert all(step and all(weight > 0 for weight in step.values()) for step in plan)
        assert schedule(mixture, steps, 1) == plan
    assert alternating(mixture, 40, 1) != alternating(mixture, 40, 2)


def test_shares_of_the_steps():
    assert shares("joint", SELF_SUPERVISED) == {"masked_lm": 1.0, "inverse_cloze": 1.0, "reading": 1.0}
    assert shares("alternating", Mixture(WEIGHTS, {"reading": 1.0})) == {"reading": 0.5, "retrieval": 0.5}
    assert shares("sequential", SELF_SUPERVISED) == {"masked_lm": 1.0, "inverse_cloze": 0.25, "reading": 0.75}
    assert shares("annealed", SELF_SUPERVISED) == {"masked_lm": 1.0, "inverse_cloze": 0.625, "reading": 0.875}


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
