"""Scores of answers, fitted on judged answers and checked on others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rom_haystack.inference.scores import ScoreCalibration
from training.data.dataset import Question
from training.scores import check_scores, fit_scores, judge
from training.stopping import ReadPassages
from training.unanswerable import Judged


def judged_of(answerable, logits, f1):
    return Judged(np.array(answerable), np.array(logits), np.round(f1), np.array(f1))


class TestScores:
    def test_the_factor_fits_the_best_answers(self):
        rng = np.random.default_rng(3)
        best = rng.normal(1, 5, size=4000)
        right = (rng.random(4000) < 1 / (1 + np.exp(-0.4 * best))).astype(float)
        judged = judged_of([True] * 4000, best, right)
        scores = fit_scores(judged, 0.25)
        assert scores.calibration_factor == pytest.approx(0.4, rel=0.1)
        assert (scores.no_answer_logit, scores.passage_score_weight) == (0.0, 0.25)
        row = check_scores(judged, scores)
        assert row["calibration error"]["mean"] < 3 < row["calibration error by default"]["low"]
        assert (row["question count"], row["answerable"], row["unanswerable"]) == (4000, 4000, 0)
        assert row["SQuAD 2.0 F1"] is row["no-answer AUROC"] is None

    def test_scores_count_from_the_threshold(self):
        rng = np.random.default_rng(4)
        best = rng.normal(3, 5, size=8000)
        answerable = rng.random(8000) < 1 / (1 + np.exp(-0.4 * (best - 3)))
        judged = judged_of(answerable, best, answerable.astype(float))
        scores = fit_scores(judged, 0.5)
        assert scores.no_answer_logit == pytest.approx(3, abs=0.7)
        assert scores.calibration_factor == pytest.approx(0.4, rel=0.1)
        assert check_scores(judged, scores)["calibration error"]["mean"] < 4

    def test_the_best_answer_of_the_retrieved_passages_is_judged(self):
        found = ReadPassages(
            logits=np.array([[-np.inf, -np.inf], [1.0, 2.0], [3.0, 0.0]]),
            em=np.array([[0.0, 0.0], [1.0, 0.0], [np.nan, np.nan]]),
            f1=np.array([[0.0, 0.0], [1.0, 0.5], [np.nan, np.nan]]),
        )
        questions = [Question(str(i), "?", gold, "p") for i, gold in enumerate([("a",), ("b",), ()])]
        judged = judge(found, questions)
        assert judged.answerable.tolist() == [True, True, False]
        assert judged.logits.tolist() == [-np.inf, 2.0, 3.0]
        assert judged.em.tolist() == [0, 0, 0]
        assert judged.f1.tolist() == [0, 0.5, 0]
        assert check_scores(judged, ScoreCalibration(1.0, 0.0))["question count"] == 2  # without text, no answer

    def test_the_threshold_serves_squad2(self):
        judged = judged_of([True, True, False, False], [5.0, 2.12345, 2.0, -1.0], [1.0, 1.0, 0.0, 0.0])
        scores = fit_scores(judged, 0.5)
        assert scores.no_answer_logit == 2.123
        row = check_scores(judged, scores)
        names = ("SQuAD 2.0 F1", "SQuAD 2.0 F1 by default", "no-answer AUROC")
        assert [row[name]["mean"] for name in names] == [100, 75, 100]

    def test_intervals_draw_articles(self):
        """Half of the questions are right, by article: of two articles both halves of the draws may be one."""
        articles = np.repeat(["A", "B"], 50)
        judged = judged_of([True, False] * 50, [5.0, 4.0] * 50, [1.0, 0.0] * 25 + [0.0] * 50)
        drawn, apart = (
            check_scores(replace(judged, articles=names), ScoreCalibration(1.0, 0.0))["SQuAD 2.0 F1"]
            for names in (articles, None)
        )
        assert drawn["mean"] == apart["mean"] == 25
        assert (drawn["low"], drawn["high"]) == (0, 50)
        assert 10 < apart["low"] < apart["high"] < 40

    def test_a_threshold_is_a_number_even_where_all_is_answered(self):
        everything = judged_of([True, False], [-np.inf, -4.0], [1.0, 1.0])
        assert fit_scores(everything, 0.5).no_answer_logit == -4.0
