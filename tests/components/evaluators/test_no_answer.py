"""Questions with and without an answer, as SQuAD 2.0 scores them."""

from __future__ import annotations

import math

import pytest

from rom_haystack import NoAnswerEvaluator

GOLDS = [["red fox"], ["blue"], [], [], ["green"]]
TEXTS = ["fox", "blue", "white", "", "black"]
SCORES = [0.2, 0.1, 0.3, 0.9, 0.8]

#: The same as a reader gives it: the no-answer ranks by its score, 1 - the best answer's.
FIRST_IS_NONE = [False, False, False, True, True]


@pytest.fixture
def read(answer):
    """The predictions as a reader's lists."""

    def answers_to(text: str, score: float):
        quotes = [answer(text or "grey", 1 - score), answer("second", (1 - score) / 2)]
        return sorted([*quotes, answer(None, score)], key=lambda a: -a.score)

    return [answers_to(text, score) for text, score in zip(TEXTS, SCORES, strict=True)]


def test_texts_with_scores():
    result = NoAnswerEvaluator().run(GOLDS, TEXTS, SCORES)
    assert result["individual_scores"] == pytest.approx([2 / 3, 1, 0, 1, 0])
    assert result["score"] == result["f1"] == pytest.approx((2 / 3 + 1 + 0 + 1 + 0) / 5)
    assert result["exact_match"] == pytest.approx(2 / 5)
    assert (result["has_answer_count"], result["no_answer_count"]) == (3, 2)
    assert result["has_answer_f1"] == pytest.approx((2 / 3 + 1) / 3)
    assert result["has_answer_exact_match"] == pytest.approx(1 / 3)
    assert result["no_answer_f1"] == result["no_answer_exact_match"] == 0.5
    # none answered 2/5; then blue +1, fox +2/3 (EM: 0), white -1
    assert result["best_f1"] == pytest.approx((2 + 1 + 2 / 3) / 5)
    assert result["best_f1_threshold"] == 0.2
    assert result["best_exact_match"] == pytest.approx(3 / 5)
    assert result["best_exact_match_threshold"] == 0.1
    # unanswerable 0.9 and 0.3 against 0.2, 0.1 and 0.8: five of six pairs
    assert result["roc_auc"] == pytest.approx(5 / 6)
    assert result["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_readers_lists_hold_all_that_is_needed(read):
    assert [answers[0].data is None for answers in read] == FIRST_IS_NONE
    result = NoAnswerEvaluator().run(GOLDS, read)
    assert result["individual_scores"] == pytest.approx([2 / 3, 1, 0, 1, 0])
    from_texts = NoAnswerEvaluator().run(GOLDS, [text or "grey" for text in TEXTS], SCORES)
    swept = {name for name in result if name.startswith("best_") or name in ("roc_auc", "average_precision")}
    assert {name: result[name] for name in swept} == {name: pytest.approx(from_texts[name]) for name in swept}


def test_a_no_answer_that_top_k_cut_off_is_known_from_the_best(read):
    whole = NoAnswerEvaluator().run(GOLDS, read)
    cut = NoAnswerEvaluator().run(GOLDS, [[a for a in answers if a.data][:1] for answers in read])
    assert cut["best_f1"] == pytest.approx(whole["best_f1"])
    assert cut["best_f1_threshold"] == pytest.approx(0.2)
    assert cut["roc_auc"] == pytest.approx(whole["roc_auc"])


@pytest.mark.parametrize("threshold", [-1, 0.1, 0.15, 0.2, 0.25, 0.3, 0.8, 0.9, 2])
def test_a_threshold_decides_what_is_answered(threshold, read):
    answered, withheld = [2 / 3, 1, 0, 0, 0], [0, 0, 1, 1, 0]
    expected = [a if s <= threshold else w for a, w, s in zip(answered, withheld, SCORES, strict=True)]
    evaluator = NoAnswerEvaluator(no_answer_threshold=threshold)
    texts = [text or "grey" for text in TEXTS]
    assert evaluator.run(GOLDS, texts, SCORES)["individual_scores"] == pytest.approx(expected)
    assert evaluator.run(GOLDS, read)["individual_scores"] == pytest.approx(expected)


def test_the_best_threshold_keeps_its_promise(read):
    best = NoAnswerEvaluator().run(GOLDS, read)
    for metric in ("f1", "exact_match"):
        evaluator = NoAnswerEvaluator(no_answer_threshold=best[f"best_{metric}_threshold"])
        assert evaluator.run(GOLDS, read)[metric] == pytest.approx(best[f"best_{metric}"])


def test_without_scores():
    result = NoAnswerEvaluator().run(GOLDS, TEXTS)
    assert result["f1"] == pytest.approx((2 / 3 + 1 + 0 + 1 + 0) / 5)
    unknown = {name for name, value in result.items() if value is None}
    assert unknown == {
        "best_exact_match",
        "best_exact_match_threshold",
        "best_f1",
        "best_f1_threshold",
        "roc_auc",
        "average_precision",
    }
    with pytest.raises(ValueError, match=r"no_answer_threshold is 0\.5, but the predictions have no scores"):
        NoAnswerEvaluator(no_answer_threshold=0.5).run(GOLDS, TEXTS)


def test_one_kind_of_question_alone():
    answerable = NoAnswerEvaluator().run(["red"], ["red"], [0.5])
    assert (answerable["no_answer_f1"], answerable["roc_auc"], answerable["average_precision"]) == (None, None, None)
    assert answerable["best_f1"] == 1
    unanswerable = NoAnswerEvaluator().run([""], ["red"], [0.5])
    assert (unanswerable["has_answer_f1"], unanswerable["roc_auc"]) == (None, None)
    assert (unanswerable["best_f1"], unanswerable["best_f1_threshold"]) == (1, 0)


def test_a_gold_answer_without_a_word_is_an_answer_still():
    """SQuAD 2.0's script counts such a question among those with an answer."""
    assert NoAnswerEvaluator().run([["the"]], ["a"], [0.5])["has_answer_count"] == 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers(wrong, answer):
    with pytest.raises(ValueError, match=rf"no_answer_scores\[1\] is {wrong}; it must be finite"):
        NoAnswerEvaluator().run(["a", "b"], ["a", "b"], [0.5, wrong])
    with pytest.raises(ValueError, match=rf"no-answer scores of predicted_answers\[1\] is {wrong}"):
        NoAnswerEvaluator().run(["a", "b"], [answer(None, 0.2), answer(None, wrong)])
    with pytest.raises(ValueError, match=f"no_answer_threshold is {wrong}"):
        NoAnswerEvaluator(no_answer_threshold=wrong)
    with pytest.raises(TypeError, match=r"no_answer_scores\[0\] is 'x'"):
        NoAnswerEvaluator().run(["a"], ["a"], ["x"])


def test_scores_for_other_questions():
    with pytest.raises(ValueError, match="2 predicted_answers and 1 no_answer_scores"):
        NoAnswerEvaluator().run(["a", "b"], ["a", "b"], [0.5])


def test_serialised():
    evaluator = NoAnswerEvaluator(no_answer_threshold=0.25)
    assert NoAnswerEvaluator.from_dict(evaluator.to_dict()).no_answer_threshold == 0.25
