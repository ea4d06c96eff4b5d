"""A mean and how sure it is."""

import itertools

import numpy as np
import pytest

from rom_haystack.metrics import Figure, figure


def test_figure_is_a_mean_with_a_bootstrap_interval():
    values = np.repeat([0.0, 1.0], [25, 75])
    result = figure(values, seed=1)
    assert result == figure(values, seed=1) == Figure(75, 66, 83)
    error = 100 * np.sqrt(0.75 * 0.25 / 100)
    assert result.low == pytest.approx(75 - 1.96 * error, abs=2)
    assert result.high == pytest.approx(75 + 1.96 * error, abs=2)
    assert str(figure(np.ones(3), seed=1)) == "100.0 (100.0–100.0)"


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no questions"):
        figure([], seed=1)


def test_groups_are_drawn_whole():
    # Means of all questions in the drawn groups, by every way to draw: sizes and values differ.
    sums, counts = np.array([0.0, 3.0, 1.0, 2.0]), np.array([4, 3, 2, 8])
    values = np.concatenate([[0] * 4, [1] * 3, [1, 0], [1, 1, 0, 0, 0, 0, 0, 0]])
    ways = np.array(list(itertools.product(range(4), repeat=4)))
    low, high = np.percentile(sums[ways].sum(axis=1) / counts[ways].sum(axis=1), [2.5, 97.5])
    result = figure(values, seed=1, resamples=20_000, groups=np.repeat(["a", "b", "c", "d"], counts))
    assert result.mean == pytest.approx(100 * 6 / 17, abs=0.01)
    assert (result.low, result.high) == (pytest.approx(100 * low, abs=1), pytest.approx(100 * high, abs=1))


def test_two_groups_are_drawn_twice_each_in_a_quarter_of_the_resamples():
    assert figure([0, 0, 0, 1], seed=1, groups=["Nile", "Nile", "Nile", "Moon"]) == Figure(25, 0, 100)


def test_intervals_are_wider_where_groups_are_alike():
    rng = np.random.default_rng(3)
    articles = np.repeat(np.arange(25), 200)
    values = rng.random(5000) < rng.uniform(0.4, 1, size=25)[articles]
    by_question, by_article = figure(values, seed=1), figure(values, seed=1, groups=articles)
    assert by_article.mean == by_question.mean
    # As the means of articles spread, which are almost independent of each other.
    error = 100 * values.reshape(25, 200).mean(axis=1).std() / 5
    assert by_article.high - by_article.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert by_article.high - by_article.low > 3 * (by_question.high - by_question.low)


def test_groups_of_one_are_questions():
    values = np.random.default_rng(4).random(400)
    alone, each = figure(values, seed=1, resamples=5000), figure(values, 1, 5000, groups=np.arange(400))
    assert each.mean == alone.mean
    assert (each.low, each.high) == (pytest.approx(alone.low, abs=0.2), pytest.approx(alone.high, abs=0.2))


def test_a_single_group_is_drawn_by_question():
    values = np.random.default_rng(4).random(40)
    assert figure(values, seed=1, groups=["Nile"] * 40) == figure(values, seed=1)


def test_every_value_needs_a_group():
    with pytest.raises(ValueError, match="3 values and 2 labels"):
        figure([0, 1, 1], seed=1, groups=["Nile", "Moon"])
