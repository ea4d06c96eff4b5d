"""Thresholds as in SQuAD 2.0's script, by hand and by trying them all; rankings as in scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from rom_haystack.metrics import average_precision, best_threshold, roc_auc, withhold_above

#: (value of the answer, answerable, no-answer score), and the best mean and threshold.
SWEEPS = {
    "lowest of equals": ([(0.5, True, 0.1), (0.0, False, 0.2), (1.0, True, 0.3)], 1.5 / 3, 0.1),
    "all answered": ([(1.0, True, 0.1), (0.0, False, 0.2), (1.0, True, 0.3), (1.0, True, 0.4)], 3 / 4, 0.4),
    "none answered": ([(0.0, False, 0.1), (0.9, True, 0.2)], 1 / 2, 0.0),
    "none answered, scores of 0": ([(0.0, False, 0.0), (0.9, True, 0.0)], 1 / 2, math.nextafter(0, -1)),
    "none answered, log-odds": ([(0.0, False, -7.0), (0.9, True, 3.0)], 1 / 2, math.nextafter(-7, -8)),
    "a wrong answer costs nothing": ([(0.0, True, 0.1), (1.0, True, 0.2), (0.0, False, 0.9)], 2 / 3, 0.2),
    "no answer predicted where there is none": ([(1.0, False, 0.1), (1.0, True, 0.2)], 2 / 2, 0.2),
    "no threshold between equal scores": ([(1.0, True, 0.5), (0.0, False, 0.5), (0.0, False, 0.5)], 2 / 3, 0.0),
    "equal scores together": ([(1.0, True, 0.5), (1.0, True, 0.5), (0.0, False, 0.5)], 2 / 3, 0.5),
    "only unanswerable": ([(0.0, False, 0.2)], 1.0, 0.0),
    "only answerable": ([(0.25, True, 0.2)], 0.25, 0.2),
}


@pytest.mark.parametrize(("questions", "value", "threshold"), SWEEPS.values(), ids=list(SWEEPS))
def test_best_threshold(questions, value, threshold):
    best = best_threshold(*zip(*questions, strict=True))
    assert best.value == pytest.approx(value)
    assert best.threshold == threshold


QUESTIONS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans(), st.integers(-3, 3).map(float)), min_size=1
)


@given(QUESTIONS)
def test_best_threshold_is_the_best_of_all(questions):
    values, answerable, scores = zip(*questions, strict=True)
    nothing = np.mean([not has for has in answerable])
    means = {t: np.mean(withhold_above(t, values, answerable, scores)) for t in scores}
    best = best_threshold(values, answerable, scores)
    assert best.value == pytest.approx(max(nothing, *means.values()))
    assert np.mean(withhold_above(best.threshold, values, answerable, scores)) == pytest.approx(best.value)
    if best.value == pytest.approx(nothing):
        assert best.threshold < min(scores)
    else:
        assert best.threshold == min(t for t, mean in means.items() if mean == pytest.approx(best.value))


@given(QUESTIONS, st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_matter(questions, random):
    shuffled = random.sample(questions, len(questions))
    one, other = (best_threshold(*zip(*some, strict=True)) for some in (questions, shuffled))
    assert one.threshold == other.threshold
    assert one.value == pytest.approx(other.value)


def test_a_score_at_the_threshold_is_answered():
    assert withhold_above(0.5, [0.2, 0.2, 0.2, 0.2], [True, True, False, False], [0.5, 0.6, 0.5, 0.6]) == [
        0.2,
        0,
        0.2,
        1,
    ]


def test_no_questions():
    with pytest.raises(ValueError, match="no questions"):
        best_threshold([], [], [])


@given(st.lists(st.tuples(st.booleans(), st.integers(-2, 2).map(float)), min_size=1))
def test_rankings_are_those_of_scikit_learn(questions):
    answerable, scores = zip(*questions, strict=True)
    labels = [not has for has in answerable]
    if len(set(labels)) == 2:
        assert roc_auc(answerable, scores) == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert roc_auc(answerable, scores) is None
    if any(labels):
        assert average_precision(answerable, scores) == pytest.approx(average_precision_score(labels, scores))
    else:
        assert average_precision(answerable, scores) is None


def test_rankings_by_hand():
    # unanswerable at 0.9 and 0.3, answerable at 0.5 and 0.3: pairs won 1, 1, 0, and half of one tied
    assert roc_auc([False, True, False, True], [0.9, 0.5, 0.3, 0.3]) == pytest.approx(2.5 / 4)
    # recall 1/2 at precision 1, then 1/2 at precision 2/4
    assert average_precision([False, True, False, True], [0.9, 0.5, 0.3, 0.3]) == pytest.approx(0.5 + 0.25)
    assert roc_auc([], []) is None
    assert average_precision([], []) is None
