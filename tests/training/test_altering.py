"""Altered questions: swaps of names, years and numbers, opposites; no answer comes in, and what fits no rule stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.dataset import Passage, Question
from training.tasks import ReadingTask
from training.tasks.altering import altered, names

PASSAGE = (
    "In 1889 Gustave Eiffel built his tower in Paris. Nearby, Émile Zola and the Duke of Alba wrote of 12 workers, "
    "in 1891 of 300. The tower was the tallest until the Chrysler Building was finished. Paris celebrated."
)


def all_of(question, answers=(), passage=PASSAGE):
    """Every alteration of a question that is ever drawn."""
    return {altered(question, passage, answers, np.random.default_rng(seed)) for seed in range(300)}


class TestRules:
    def test_a_name_gives_way_to_another_of_the_passage(self):
        others = {"Paris", "Émile Zola", "Duke of Alba", "Chrysler Building"}
        assert all_of("What did Gustave Eiffel open?") == {f"What did {other} open?" for other in others}

    def test_no_answer_comes_in_nor_what_the_question_names(self):
        found = all_of("What did Gustave Eiffel open in Paris?", ["the Duke of Alba"])
        others = {"Émile Zola", "Chrysler Building"}
        assert found == {
            *(f"What did {other} open in Paris?" for other in others),
            *(f"What did Gustave Eiffel open in {other}?" for other in others),
        }

    def test_years_are_swapped_for_years_and_other_numbers_for_such(self):
        assert all_of("Who built in 1889?") == {"Who built in 1891?"}
        assert all_of("Who had 12 workers?") == {"Who had 300 workers?"}
        assert all_of("Who built in 1889?", ["1891"]) == {None}

    def test_a_word_gives_way_to_its_opposite(self):
        assert all_of("Which was the largest before that?") == {
            "Which was the smallest before that?",
            "Which was the largest after that?",
        }
        assert all_of("Which lies along the northern bank?") == {"Which lies along the southern bank?"}

    def test_each_kind_of_alteration_is_drawn(self):
        found = all_of("Who built the first tower in Paris in 1889?")
        assert "Who built the last tower in Paris in 1889?" in found
        assert "Who built the first tower in Paris in 1891?" in found
        assert "Who built the first tower in Gustave Eiffel in 1889?" in found

    @pytest.mark.parametrize("question", ["", "Who did it?", "Where is Berlin?", "Paris?", "Who built in 1999?"])
    def test_what_no_rule_fits_stays_as_it_is(self, question):
        assert all_of(question) == {None}

    def test_names_are_no_single_words_at_the_start_of_a_sentence(self):
        text = "However, Mary Shelley of Somers Town lived. The Alps rose! Later non-Muslims met O'Brien's kin."
        assert [name for _, _, name in names(text)] == ["Mary Shelley of Somers Town", "Alps", "O'Brien"]

    @given(st.text(max_size=80), st.text(max_size=200), st.lists(st.text(max_size=10), max_size=2), st.integers(0, 9))
    def test_any_text_is_altered_or_left(self, question, passage, answers, seed):
        other = altered(question, passage, answers, np.random.default_rng(seed))
        assert other is None or other != question


class TestReading:
    @pytest.fixture
    def task(self, tiny_tokenizer):
        def make(question, answers, **options):
            item = Question("q", question, answers, "p", unanswerable=not answers)
            passages = {"p": Passage("p", "Tower", PASSAGE)}
            return ReadingTask(ReadingTask.Options(negative_rate=0.0, **options), [item], passages, tiny_tokenizer, 1)

        return make

    def test_an_altered_question_has_no_answer(self, task, tiny_tokenizer):
        made = task("Who built in 1889?", ("tower",), altered_rate=1.0)
        plain = task("Who built in 1889?", ("tower",))
        features, expected = (one.collate(one.items, np.random.default_rng(0)) for one in (made, plain))
        assert expected["relevant"].tolist() == [1.0]
        assert features["relevant"].tolist() == [0.0]
        assert [side.nonzero().tolist() for side in features["targets"]] == [[[0, 0]]] * 2
        read = tiny_tokenizer.decode(features["inputs"]["input_ids"][0])
        assert "1891" in read.split(tiny_tokenizer.sep_token)[0].replace(" ", "").replace("##", "")

    @pytest.mark.parametrize("question", ["Who built in 1889?", "Who did it?"])
    def test_what_has_no_answer_or_fits_no_rule_is_read_as_it_is(self, task, question):
        answers = ("tower",) if question == "Who did it?" else ()
        made, plain = task(question, answers, altered_rate=1.0), task(question, answers)
        features, expected = (one.collate(one.items, np.random.default_rng(0)) for one in (made, plain))
        assert features["relevant"].tolist() == expected["relevant"].tolist() == [float(bool(answers))]
        assert features["inputs"]["input_ids"].tolist() == expected["inputs"]["input_ids"].tolist()

    def test_the_rate_is_a_share_of_the_answerable_pairs(self, task):
        made = task("Who built in 1889?", ("tower",), altered_rate=0.3)
        features = made.collate(list(made.items) * 1000, np.random.default_rng(0))
        assert features["relevant"].mean().item() == pytest.approx(0.7, abs=0.05)
