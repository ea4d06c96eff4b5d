"""Values of questions with their articles."""

import numpy as np
import pytest

from rom_haystack.metrics import figure
from training.data.dataset import Passage
from training.samples import Sample, articles_of, count_articles, resampled

VALUES = np.array([0.5, 1.0, 0.0])
ARTICLES = np.array(["Nile", "Moon", "Nile"])


@pytest.mark.parametrize("articles", [ARTICLES, None])
def test_files_keep_articles(articles, tmp_path):
    metric = "recall@5, nq/train"
    np.savez_compressed(tmp_path / "scores.npz", **{metric: Sample(VALUES, articles).to_array()})
    with np.load(tmp_path / "scores.npz") as arrays:
        found = Sample.from_array(arrays[metric])
    assert found.values.tolist() == VALUES.tolist()
    assert found.values.dtype == np.float64
    assert (found.articles is None) == (articles is None)
    assert articles is None or found.articles.tolist() == articles.tolist()


def test_differences_and_means_are_of_the_same_questions():
    sample, other = Sample(VALUES, ARTICLES), Sample(np.array([0.0, 1.0, 1.0]), ARTICLES)
    apart, mean = sample - other, Sample.mean([sample, other])
    assert apart.values.tolist() == [0.5, 0, -1]
    assert mean.values.tolist() == [0.25, 1, 0.5]
    assert apart.articles is mean.articles is ARTICLES


def test_figures_draw_articles_where_they_are_known():
    assert Sample(VALUES, ARTICLES).figure(seed=1) == figure(VALUES, seed=1, groups=["b", "a", "b"])
    assert Sample(VALUES).figure(seed=1) == figure(VALUES, seed=1)


def test_articles_are_titles():
    nile, moon, untitled = Passage("p0", "Nile", "a"), Passage("p1", "Moon", "b"), Passage("p2", "", "c")
    found = articles_of([nile, moon, nile, untitled])
    assert found.tolist() == ["Nile", "Moon", "Nile", "p2"]
    assert count_articles(found) == 3
    assert articles_of([untitled, untitled]) is None
    assert articles_of([]) is None
    assert count_articles(None) is None


@pytest.mark.parametrize("settings", [{}, {"article count": None}, {"article count": 1}])
def test_what_is_drawn_without_articles(settings):
    assert resampled(settings) == "questions"


def test_what_is_drawn_with_articles():
    assert resampled({"article count": 24}) == "articles (24; questions where none are known)"
