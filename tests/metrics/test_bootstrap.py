"""A mean and how sure it is."""

import numpy as np
import pytest

from rom_haystack.metrics import figure


def test_figure_is_a_mean_with_a_bootstrap_interval():
    values = np.repeat([0.0, 1.0], [25, 75])
    result = figure(values, seed=1)
    assert result == figure(values, seed=1)
    assert result.mean == 75
    error = 100 * np.sqrt(0.75 * 0.25 / 100)
    assert result.low == pytest.approx(75 - 1.96 * error, abs=2)
    assert result.high == pytest.approx(75 + 1.96 * error, abs=2)
    assert str(figure(np.ones(3), seed=1)) == "100.0 (100.0–100.0)"


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no questions"):
        figure([], seed=1)
