"""Stopping rules: what they read, how they are fitted, and how sure of them a count of questions makes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rom_haystack.inference.stopping import StoppingRule
from training.errors import DataError
from training.stopping import (
    ReadPassages,
    agreement,
    agreement_interval,
    allowed_errors,
    binomial_cdf,
    check,
    critical_levels,
    fit_rule,
    fit_rules,
    passages_read,
)

# Few values, so that ties occur; no answer at all among them.
VALUE = st.sampled_from([-np.inf, -2.5, -0.5, 0.0, 0.29, 1.0, 2.2, 3.0, 5.3])
LOGITS = st.integers(1, 6).flatmap(
    lambda total: arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(total)), elements=VALUE)
)
RULES = st.builds(StoppingRule, level=st.floats(-3, 6), slope=st.floats(0, 2))


def exact_answer(logits):
    """The passage of the best answer, None for "no answer"."""
    best = int(np.argmax(logits))
    return best if logits[best] >= 0 else None


def by_hand(logits, rule, group_size):
    """One question, passage by passage, as the encoder reads it."""
    read = 0
    while read < len(logits):
        read = min(read + group_size, len(logits))
        if rule.settled(read, len(logits), logits[:read].max()):
            break
    return read


class TestStopping:
    @given(LOGITS, RULES, st.integers(1, 3))
    def test_reads_what_the_rule_asks_for(self, logits, rule, group_size):
        expected = [by_hand(row, rule, group_size) for row in logits]
        assert passages_read(logits, rule, group_size).tolist() == expected

    @given(LOGITS, RULES)
    def test_agrees_where_the_best_answer_is_the_same(self, logits, rule):
        read = passages_read(logits, rule)
        expected = [exact_answer(row[:count]) == exact_answer(row) for row, count in zip(logits, read, strict=True)]
        assert agreement(logits, read).tolist() == expected

    @given(LOGITS, RULES)
    def test_asking_less_often_agrees_no_less(self, logits, rule):
        every, in_twos = (agreement(logits, passages_read(logits, rule, size)) for size in (1, 2))
        assert (in_twos >= every).all()

    @given(LOGITS, st.floats(0, 2), st.floats(1e-6, 3))
    def test_critical_level_parts_wrong_from_right(self, logits, slope, margin):
        for row, level in zip(logits, critical_levels(logits, slope), strict=True):
            if math.isinf(level):
                rules = [(StoppingRule(-1e6, slope), True)]
            else:
                rules = [(StoppingRule(level + margin, slope), True), (StoppingRule(level - margin, slope), False)]
            for rule, right in rules:
                assert agreement(row[None], passages_read(row[None], rule)).tolist() == [right]


class TestFit:
    @given(LOGITS.filter(lambda logits: len(logits) > 4), st.floats(0.3, 0.95), st.floats(0.05, 0.5))
    def test_keeps_its_promise_on_what_it_was_fitted_on(self, logits, promise, confidence):
        try:
            rule = fit_rule(logits, promise, confidence=confidence)
        except DataError:
            assert promise ** len(logits) > 1 - confidence
            return
        agreed = agreement(logits, passages_read(logits, rule))
        assert np.sum(~agreed) <= allowed_errors(len(logits), promise, confidence)
        if confidence >= 0.5:
            assert agreed.mean() >= promise - 1 / len(logits)
        assert rule.level >= 0

    def test_finds_the_rule_that_reads_least(self):
        rng = np.random.default_rng(3)
        logits = rng.normal(size=(400, 8)) + np.where(np.arange(8) == rng.geometric(0.4, size=(400, 1)) - 1, 4, 0)
        found = passages_read(logits, fit_rule(logits, 0.9)).mean()
        allowed = allowed_errors(400, 0.9)
        for level in np.arange(0, 7, 0.25):
            for slope in np.arange(0, 2.5, 0.25):
                read = passages_read(logits, StoppingRule(level, slope))
                assert read.mean() >= found - 0.05 or np.sum(~agreement(logits, read)) > allowed
        assert 1 < found < 7

    def test_a_higher_promise_reads_more(self):
        rng = np.random.default_rng(4)
        logits = rng.normal(size=(1000, 6)) * 3
        read = [passages_read(logits, fit_rule(logits, promise)).mean() for promise in (0.6, 0.8, 0.9, 0.97, 0.995)]
        assert read == sorted(set(read))

    @given(LOGITS.filter(lambda logits: len(logits) > 4), st.floats(0.3, 0.9), st.floats(0, 0.3))
    def test_a_higher_promise_is_above_everywhere(self, logits, promise, more):
        promises = {"low": promise, "high": min(promise + more, 0.95)}
        try:
            rules = fit_rules(logits, promises)
        except DataError:
            return
        assert list(rules) == ["low", "high"]
        for total in (2, 7, 100):
            for read in range(1, total):
                assert rules["high"].bound(read, total) >= rules["low"].bound(read, total)

    def test_is_kept_on_other_questions_of_the_same_kind(self):
        rng = np.random.default_rng(5)
        logits = rng.normal(size=(20_000, 6)) * 3
        rule = fit_rule(logits[:2000], 0.9)
        assert agreement(logits[2000:], passages_read(logits[2000:], rule)).mean() >= 0.9

    def test_where_the_first_passage_is_always_best_only_that_is_read(self):
        logits = np.tile([5.0, 4.0, 3.0], (100, 1))
        assert passages_read(logits, fit_rule(logits, 0.95)).tolist() == [1] * 100

    def test_answers_worse_than_none_settle_nothing(self):
        logits = np.tile([-3.0, -4.0, -5.0], (100, 1))
        assert fit_rule(logits, 0.95).level > 0

    def test_keeps_the_weight(self):
        assert fit_rule(np.ones((100, 2)), 0.9, passage_score_weight=0.25).passage_score_weight == 0.25


class TestConfidence:
    # "Rule of three": without errors, 95% confidence takes ln(0.05) / ln(promise) questions.
    @pytest.mark.parametrize(("promise", "needed"), [(0.995, 598), (0.97, 99), (0.9, 29)])
    def test_fewest_questions(self, promise, needed):
        assert allowed_errors(needed, promise) == 0
        with pytest.raises(DataError, match=rf"{needed - 1} questions can't show.*at least {needed}\."):
            allowed_errors(needed - 1, promise)

    def test_errors_of_many_questions(self):
        # Binomial tables: with 100 questions and 10% errors, P(X <= 4) is 0.0237 and P(X <= 5) 0.0576.
        assert binomial_cdf(100, 0.1)[[4, 5]] == pytest.approx([0.0237, 0.0576], abs=5e-5)
        assert allowed_errors(100, 0.9) == 4

    # Published Clopper-Pearson intervals of 0, 1 and 10 events in 100, 100 and 100.
    @pytest.mark.parametrize(
        ("errors", "low", "high"), [(0, 0.0, 0.0362), (1, 0.0003, 0.0545), (10, 0.0490, 0.1762), (100, 0.9638, 1.0)]
    )
    def test_interval(self, errors, low, high):
        assert agreement_interval(errors, 100) == pytest.approx((1 - high, 1 - low), abs=5e-5)

    def test_large_counts_do_not_underflow(self):
        assert binomial_cdf(100_000, 0.03)[3000] == pytest.approx(0.5, abs=0.01)


class TestCheck:
    FOUND = ReadPassages(
        logits=np.array([[3.0, 1.0, 5.0], [4.0, 2.0, 1.0], [1.0, -1.0, 2.0], [-2.0, -3.0, -1.0]]),
        em=np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.nan] * 3]),
        f1=np.array([[0.5, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.6], [np.nan] * 3]),
    )

    def test_counts_what_was_read_and_lost(self):
        # The first question stops on the wrong answer, the second on the right one; the others read on.
        row = check(self.FOUND, StoppingRule(3.0, 0.0))
        assert row["question count"] == 4
        assert row["passages"] == 3
        assert row["agreement"] == {"mean": 75.0, "low": 19.41, "high": 99.37}
        assert row["passages read"] == 2.0
        assert row["passages read in twos"] == 2.5
        assert row["EM change"] == pytest.approx(-100 / 3, abs=0.01)
        assert row["F1 change"] == pytest.approx(-50 / 3, abs=0.01)

    def test_without_stopping_nothing_changes(self):
        row = check(self.FOUND, StoppingRule(100.0, 0.0))
        assert (row["agreement"]["mean"], row["passages read"], row["EM change"], row["F1 change"]) == (100, 3, 0, 0)

    def test_unknown_answers_have_no_change(self):
        unknown = np.full((4, 3), np.nan)
        row = check(ReadPassages(self.FOUND.logits, unknown, unknown), StoppingRule(3.0, 0.0))
        assert row["EM change"] is None
        assert row["F1 change"] is None

    def test_fewer_passages_are_the_first(self):
        assert self.FOUND.top(2).logits.tolist() == self.FOUND.logits[:, :2].tolist()
        assert check(self.FOUND.top(2), StoppingRule(3.0, 0.0))["passages"] == 2
