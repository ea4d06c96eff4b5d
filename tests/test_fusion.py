"""Rankings fused, and weights fitted, against values worked out by hand and against the laws of fusing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rom_haystack.fusion import FUSIONS, fit_weights, fuse

KEYWORD = [("a", 12.0), ("b", 6.0), ("c", 2.0)]
DENSE = [("c", 0.9), ("d", 0.8), ("a", 0.5)]
#: Fused scores lie this close to where they belong.
CLOSE = 1e-9

shares = st.integers(1, 99).map(lambda share: share / 100)


@st.composite
def searches(draw):
    """What a search may find: up to eight documents, best first, some with equal scores."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8))
    scores = draw(st.lists(st.integers(-5, 20).map(float), min_size=len(names), max_size=len(names)))
    return list(zip(names, sorted(scores, reverse=True), strict=True))


def test_min_max_adds_up_scaled_scores():
    fused = fuse([KEYWORD, DENSE], "min_max", [3, 1])
    assert fused == pytest.approx({"a": 0.75, "b": 0.3, "c": 0.25, "d": 0.1875})
    assert list(fused) == ["a", "b", "c", "d"]


def test_z_scores_adds_up_standard_deviations_above_the_worst():
    fused = fuse([[("a", 3.0), ("b", 1.0)], [("b", 0.9), ("c", 0.9), ("a", 0.6)]], "z_score", [3, 1])
    deviation = math.sqrt(2) / 3  # of 1, 1 and 0
    shallow = math.sqrt(14) / 3  # of 3, 1 and the 0 of what was not found
    assert fused == pytest.approx(
        {"a": 0.75 * 3 / shallow, "b": 0.75 * 1 / shallow + 0.25 / deviation, "c": 0.25 / deviation}
    )


def test_a_rare_word_outweighs_a_similar_text():
    dense = [(str(number), 0.7 - number / 100) for number in range(50)]
    for mode in ("z_score", "min_max"):
        assert next(iter(fuse([[("part", 6.5)], dense], mode))) == "part"


def test_reciprocal_ranks_are_added_up():
    fused = fuse([KEYWORD, DENSE], "reciprocal_rank_fusion", [1, 1])
    expected = {"a": 61 / 61 + 61 / 63, "b": 61 / 62, "c": 61 / 63 + 61 / 61, "d": 61 / 62}
    assert fused == pytest.approx({name: value / 2 for name, value in expected.items()})
    assert list(fused) == ["a", "c", "b", "d"]  # ties as in the first search, then as in the second


def test_equal_missing_and_odd_scores():
    for mode in ("z_score", "min_max"):
        assert fuse([[("a", 3.0), ("b", 3.0)]], mode) == {"a": 1.0, "b": 1.0}
    assert fuse([[("a", 7.0)], []], "min_max") == {"a": 0.5}
    odd = [("a", 5.0), ("b", 1.0), ("c", None), ("d", math.nan), ("e", -math.inf)]
    assert fuse([odd], "min_max") == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0}
    huge = [("a", 1.7e308), ("b", -1.7e308)]
    for mode in ("z_score", "min_max"):
        assert all(math.isfinite(value) for value in fuse([huge], mode).values())


def test_ranks_count_where_a_search_gives_no_scores():
    unscored = [("a", None), ("b", None), ("c", math.nan)]
    assert fuse([unscored], "min_max") == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert fuse([unscored], "z_score") == fuse([[("a", 3.0), ("b", 2.0), ("c", 1.0)]], "z_score")
    for mode in FUSIONS:
        assert list(fuse([[("c", 9.0), ("a", 8.0)], unscored], mode, [0.01, 0.99])) == ["a", "b", "c"]
    few = fuse([[("a", None)], [("b", 0.9), ("c", 0.8), ("d", 0.1)]], "min_max")
    assert few == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.5 * 7 / 8, "d": 0.0})


def test_a_document_that_a_search_names_twice_counts_once():
    assert fuse([[("a", 2.0), ("a", 1.0), ("b", 1.0)]], "reciprocal_rank_fusion") == {"a": 1.0, "b": 61 / 62}


@pytest.mark.parametrize("mode", FUSIONS)
def test_nothing_found_is_nothing(mode):
    assert fuse([[], []], mode) == {}


@pytest.mark.parametrize("mode", FUSIONS)
@settings(max_examples=30, deadline=None)
@given(first=searches(), second=searches())
def test_all_weight_on_one_search_is_that_search(mode, first, second):
    assert list(fuse([first, second], mode, [1, 0])) == [name for name, _ in first]
    assert list(fuse([first, second], mode, [0, 1])) == [name for name, _ in second]
    assert list(fuse([first, [(name, None) for name, _ in second]], mode, [0, 1])) == [name for name, _ in second]


@pytest.mark.parametrize("mode", FUSIONS)
@settings(max_examples=30, deadline=None)
@given(first=searches(), second=searches(), share=shares)
def test_the_order_of_searches_matters_for_ties_alone(mode, first, second, share):
    one = fuse([first, second], mode, [share, 1 - share])
    other = fuse([second, first], mode, [1 - share, share])
    assert one == pytest.approx(other, abs=CLOSE)
    assert [one[name] for name in one] == sorted(one.values(), reverse=True)
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in (*first, *second)))}
    for name, after in zip(list(one), list(one)[1:], strict=False):
        assert one[name] > one[after] or places[name] < places[after]


@pytest.mark.parametrize("mode", FUSIONS)
@settings(max_examples=30, deadline=None)
@given(first=searches(), second=searches(), share=shares)
def test_what_both_searches_like_better_comes_first(mode, first, second, share):
    fused = fuse([first, second], mode, [share, 1 - share])
    one, other = dict(first), dict(second)
    for better in one.keys() & other.keys():
        for worse in one.keys() & other.keys():
            if one[better] >= one[worse] and other[better] > other[worse] and _before(first, better, worse, mode):
                assert fused[better] > fused[worse] - CLOSE


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("mode", ["z_score", "min_max"])
@given(found=searches(), scale=st.floats(0.01, 100), shift=st.integers(-1000, 1000))
def test_scores_count_on_any_scale(mode, found, scale, shift):
    moved = [(name, score * scale + shift) for name, score in found]
    assert fuse([moved], mode) == pytest.approx(fuse([found], mode), abs=1e-6)
    assert mode == "z_score" or all(0 <= value <= 1 for value in fuse([moved], mode).values())


@pytest.mark.parametrize("mode", FUSIONS)
@settings(max_examples=30, deadline=None)
@given(examples=st.lists(st.tuples(searches(), searches(), st.sets(st.sampled_from("abcdefgh"))), max_size=5))
def test_fitted_quality_is_that_of_fusing_with_the_fitted_weights(mode, examples):
    telling = [e for e in examples if e[2] & {name for name, _ in (*e[0], *e[1])}]
    if not telling:
        with pytest.raises(ValueError, match="no search found a document with the answer"):
            fit_weights(examples, [mode])
        return
    fit = fit_weights(examples, [mode])
    assert fit.questions == len(telling)
    assert sum(fit.weights) == pytest.approx(1)

    def mrr(weights):
        return sum(_reciprocal_rank(fuse([a, b], mode, weights), right) for a, b, right in examples) / len(examples)

    assert fit.fused.mrr == pytest.approx(mrr(fit.weights))
    assert fit.alone[0].mrr == pytest.approx(sum(_reciprocal_rank(dict(a), r) for a, _, r in examples) / len(examples))
    for share in (0, 0.1, 0.34, 0.5, 0.8, 1):  # of the shares that are tried
        assert fit.fused.mrr >= mrr([share, 1 - share]) - CLOSE


def test_the_better_search_gets_the_weight():
    right = [("x", 9.0), ("y", 8.0), ("z", 1.0)]
    wrong = [("y", 0.9), ("z", 0.5), ("x", 0.1)]
    fit = fit_weights([(right, wrong, {"x"})] * 3 + [(wrong, right, {"x"})], ["min_max"])
    assert fit.weights == [0.9, 0.1]  # x comes first from 8/9 on; of the shares that are tried, the most even one
    assert fit.fused.recall == {1: 0.75, 5: 1, 20: 1}
    assert [quality.recall[1] for quality in fit.alone] == [0.75, 0.25]


def test_questions_that_no_search_answers_lower_the_quality_alone():
    found, lost = ([("x", 2.0)], [("y", 1.0)], {"x"}), ([("a", 2.0)], [], {"z"})
    fit = fit_weights([found, lost], ["min_max"])
    assert fit.questions == 1
    assert fit.fused.mrr == 0.5
    assert fit.alone[1].mrr == 0


def test_the_better_way_of_fusing_is_chosen():
    """Both questions' rankings are the same, so that only scores tell which search is sure."""
    sure_of_y = [("x", 9.0), ("y", 8.9), ("w", 0.0)], [("y", 0.9), ("x", 0.1), ("w", 0.0)], {"y"}
    sure_of_x = [("x", 9.0), ("y", 0.1), ("w", 0.0)], [("y", 0.91), ("x", 0.9), ("w", 0.1)], {"x"}
    fit = fit_weights([sure_of_y, sure_of_x], ["reciprocal_rank_fusion", "min_max"])
    assert (fit.join_mode, fit.weights, fit.fused.mrr) == ("min_max", [0.5, 0.5], 1)


def test_unknown_and_missing_ways_of_fusing_are_named():
    with pytest.raises(ValueError, match="Unknown join_mode 'rrf'"):
        fit_weights([(KEYWORD, DENSE, {"a"})], ["z_score", "rrf"])
    with pytest.raises(ValueError, match="join_modes is empty"):
        fit_weights([(KEYWORD, DENSE, {"a"})], [])


def _before(found, one, other, mode):
    names = [name for name, _ in found]
    return mode != "reciprocal_rank_fusion" or names.index(one) < names.index(other)


def _reciprocal_rank(ranking, right):
    return next((1 / rank for rank, name in enumerate(ranking, 1) if name in right), 0)
