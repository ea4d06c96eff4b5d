"""Calibration, by hand and as in scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss

from rom_haystack.metrics import (
    ReliabilityBin,
    calibration_error,
    calibration_factor,
    equal_mass_bins,
    equal_width_bins,
    log_loss,
    log_odds,
)


def test_equal_width_by_hand():
    bins = equal_width_bins([0.0, 0.1, 0.5, 0.6, 1.0], [0, 0, 1, 0.5, 1], 2)
    assert bins == [
        ReliabilityBin(0.0, 0.5, 3, pytest.approx(0.2), pytest.approx(1 / 3)),  # 0.5 belongs to the lower bin
        ReliabilityBin(0.5, 1.0, 2, pytest.approx(0.8), pytest.approx(0.75)),
    ]
    assert calibration_error(bins) == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.05) / 5)


def test_empty_bins_are_left_out():
    assert [(b.low, b.high, b.count) for b in equal_width_bins([0.05, 0.95], [0, 1], 10)] == [
        (0.0, pytest.approx(0.1), 1),
        (pytest.approx(0.9), 1.0, 1),
    ]


@pytest.mark.parametrize("edge", [i / 10 for i in range(1, 11)])
def test_an_edge_belongs_to_the_lower_bin(edge):
    (found,) = equal_width_bins([edge], [1], 10)
    assert found.high == pytest.approx(edge)


def test_equal_mass_by_hand():
    bins = equal_mass_bins([0.9, 0.1, 0.2, 0.3, 0.8, 0.95], [1, 0, 0, 1, 1, 1], 3)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.1, 0.2, 2), (0.3, 0.8, 2), (0.9, 0.95, 2)]
    assert [b.accuracy for b in bins] == [0, 1, 1]
    assert calibration_error(bins) == pytest.approx((0.15 + 0.45 + 0.075) / 3)


def test_equal_probabilities_stay_together_whatever_their_order():
    p, y = [0.5, 0.5, 0.5, 0.5, 0.9], [1, 0, 0, 0, 1]
    bins = equal_mass_bins(p, y, 4)
    assert [(b.low, b.high, b.count, b.accuracy) for b in bins] == [(0.5, 0.5, 4, 0.25), (0.9, 0.9, 1, 1)]
    assert equal_mass_bins(p[::-1], y[::-1], 4) == bins


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_more_bins_than_answers(count):
    p = np.linspace(0.1, 0.9, count)
    assert sum(b.count for b in equal_mass_bins(p, p, 15)) == count
    assert len(equal_mass_bins(p, p, 15)) == min(count, 15)


def test_as_in_scikit_learn():
    rng = np.random.default_rng(3)
    p = rng.random(500)
    y = (rng.random(500) < p**2).astype(int)
    bins = equal_width_bins(p, y, 10)
    accuracy, confidence = calibration_curve(y, p, n_bins=10)
    assert [b.accuracy for b in bins] == pytest.approx(accuracy)
    assert [b.confidence for b in bins] == pytest.approx(confidence)
    assert log_loss(p, y) == pytest.approx(sklearn_log_loss(y, p))


def test_certainty_that_is_wrong_costs_much_but_not_all():
    assert 30 < log_loss([0.0, 1.0], [1, 0]) < 40
    assert log_loss([0.0, 1.0], [0, 1]) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(log_odds([0.0, 0.5, 1.0])).all()
    assert log_odds([0.5, 0.75]) == pytest.approx([0, math.log(3)])


@pytest.mark.parametrize("factor", [0.3, 1, 2.5])
def test_calibration_factor_recovers_the_temperature(factor):
    rng = np.random.default_rng(5)
    logits = rng.normal(0.5, 1, size=20000)
    right = rng.random(20000) < 1 / (1 + np.exp(-factor * logits))
    assert calibration_factor(logits, right) == pytest.approx(factor, rel=0.1)
