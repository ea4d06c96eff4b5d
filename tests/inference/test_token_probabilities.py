"""Probabilities over a passage's tokens: the numbers that reading decodes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.facts import ModelFacts

SMALL = {"max_seq_length": 40, "stride": 8, "max_query_length": 12}
LONG = " ".join(f"River {n} flows north through country {n * n}." for n in range(20))
PASSAGES = [
    "Comets are small bodies of ice and dust.",
    "",
    LONG,
    "Été à Paris: 25 °C — “très chaud”!",
    " \n",
    "👍🏽 日本語",
]


def log_odds(found):
    with np.errstate(divide="ignore"):
        return np.log(found.start / found.null_start), np.log(found.end / found.null_end)


class TestNumbers:
    @pytest.mark.parametrize("options", [ReadingOptions(), ReadingOptions(**SMALL)], ids=["one window", "many windows"])
    @pytest.mark.parametrize("passage", [text for text in PASSAGES if text.strip()])
    def test_are_those_that_reading_scores_spans_by(self, tiny_encoder, passage, options):
        (answers,) = tiny_encoder.read(
            ["Which river?"], [passage], ReadingOptions(**{**vars(options), "passage_score_weight": 0.0})
        )
        (found,) = tiny_encoder.token_probabilities(["Which river?"], [passage], options)
        start, end = log_odds(found)
        best = answers[0]
        first, last = (
            np.flatnonzero(found.offsets[:, side] == place) for side, place in enumerate((best.start, best.end))
        )
        assert (start[first].max() + end[last].max()) / 2 == pytest.approx(best.logit, abs=1e-4)

    def test_relevance_is_that_of_reading(self, tiny_encoder):
        options = ReadingOptions(**SMALL)
        queries = ["Which river?"] * len(PASSAGES)
        found = tiny_encoder.token_probabilities(queries, PASSAGES, options)
        expected = tiny_encoder.relevance(queries, PASSAGES, options)
        assert [one.relevance for one in found] == pytest.approx(expected, abs=1e-5)

    def test_add_up_to_one_with_the_null_position(self, tiny_encoder):
        for found in tiny_encoder.token_probabilities(["Who?"] * len(PASSAGES), PASSAGES, ReadingOptions(**SMALL)):
            assert found.start.sum() + found.null_start == pytest.approx(1)
            assert found.end.sum() + found.null_end == pytest.approx(1)
            assert (found.start >= 0).all()
            assert (found.end >= 0).all()

    def test_of_one_window_are_the_softmax_of_its_logits(self, fake_encoder):
        seen = []

        def outputs_of(tokens: TokenIds):
            seen.append(np.linspace(-2, 3, len(tokens)).astype(np.float32))
            return {"start_logits": seen[-1], "end_logits": -seen[-1], "relevance_logits": np.float32(0.5)}

        (found,) = fake_encoder(outputs_of).token_probabilities(["a"], ["water water water"])
        (logits,) = seen
        kept = np.r_[logits[0], logits[len(logits) - len(found.start) - 1 : -1]].astype(np.float64)
        kept = kept[np.r_[True, found.start > 0]]
        expected = np.exp(kept) / np.exp(kept).sum()
        np.testing.assert_allclose(np.r_[found.null_start, found.start[found.start > 0]], expected, rtol=1e-6)
        assert found.relevance == 0.5

    def test_shared_tokens_take_their_best_window(self, fake_encoder, tiny_tokenizer):
        passage = " ".join(["water"] * 30 + ["comets"] + ["water"] * 30)
        (target,) = tiny_tokenizer("comets", add_special_tokens=False)["input_ids"][:1]
        values = []

        def outputs_of(tokens: TokenIds):
            logits = np.zeros(len(tokens), np.float32)
            logits[tokens.input_ids == target] = values[-1] if target in tokens.input_ids else 0
            if target in tokens.input_ids:
                values.append(values[-1] + 1)
            return {"start_logits": logits, "end_logits": logits, "relevance_logits": np.float32(0)}

        values.append(1.0)
        options = ReadingOptions(max_seq_length=24, stride=12, max_query_length=3)
        (found,) = fake_encoder(outputs_of).token_probabilities(["a"], [passage], options)
        assert len(values) > 2, "the word must stand in several windows"
        place = passage.index("comets")
        start, _ = log_odds(found)
        assert start[found.offsets[:, 0] == place] == pytest.approx(values[-1] - 1)


class TestPlaces:
    def test_stand_in_order_each_once_and_cover_every_word(self, tiny_encoder):
        (found,) = tiny_encoder.token_probabilities(["Who?"], [LONG], ReadingOptions(**SMALL))
        places = [tuple(place) for place in found.offsets.tolist()]
        assert places == sorted(set(places))
        covered = {character for start, end in places for character in range(start, end)}
        assert covered == {index for index, character in enumerate(LONG) if not character.isspace()}

    def test_inside_words_nothing_begins_or_ends(self, tiny_encoder):
        (found,) = tiny_encoder.token_probabilities(["Who?"], ["Uncharacteristically overcomplicated."])
        for (start, end), begins, ends in zip(found.offsets.tolist(), found.start, found.end, strict=True):
            text = "Uncharacteristically overcomplicated."
            assert (begins == 0) == (start > 0 and text[start - 1].isalpha() and text[start].isalpha())
            assert (ends == 0) == (end < len(text) and text[end - 1].isalpha() and text[end].isalpha())

    def test_parts_of_characters_count_once(self, byte_encoder):
        (found,) = byte_encoder.token_probabilities(["Who?"], ["日本 👍🏽"])
        places = [tuple(place) for place in found.offsets.tolist()]
        assert len(places) == len(set(places))
        assert found.start.sum() + found.null_start == pytest.approx(1)


class TestCalls:
    def test_each_pair_gets_what_it_would_get_alone(self, tiny_encoder):
        options = ReadingOptions(**SMALL)
        queries = [f"question {n}?" for n in range(len(PASSAGES))]
        together = tiny_encoder.token_probabilities(queries, PASSAGES, options)
        for query, passage, found in zip(queries, PASSAGES, together, strict=True):
            (alone,) = tiny_encoder.token_probabilities([query], [passage], options)
            np.testing.assert_array_equal(found.offsets, alone.offsets)
            np.testing.assert_allclose(found.start, alone.start, atol=1e-6)
            np.testing.assert_allclose(found.end, alone.end, atol=1e-6)

    def test_all_pairs_in_one_call(self, fake_encoder):
        encoder = fake_encoder()
        encoder.token_probabilities(["Who?"] * 3, PASSAGES[:3])
        assert len(encoder.backend.calls) == 1

    def test_nothing_to_read(self, tiny_encoder):
        assert tiny_encoder.token_probabilities([], []) == []
        (found,) = tiny_encoder.token_probabilities(["Who?"], [" "])
        assert found.offsets.shape == (0, 2)
        assert (found.null_start, found.null_end, found.relevance) == (1, 1, -math.inf)

    def test_counts_must_agree(self, tiny_encoder):
        with pytest.raises(ValueError, match="1 queries for 2 passages"):
            tiny_encoder.token_probabilities(["a"], ["b", "c"])

    def test_a_reader_without_null_position(self, tiny_encoder):
        facts = ModelFacts(**{**vars(tiny_encoder.facts), "has_null": False})
        encoder = ROMEncoder(tiny_encoder.backend, tiny_encoder.tokenizer, facts)
        (found,) = encoder.token_probabilities(["Who?"], ["Comets are small."])
        assert (found.null_start, found.null_end) == (0, 0)
        assert found.start.sum() == pytest.approx(1)
        (nothing,) = encoder.token_probabilities(["Who?"], [""])
        assert nothing.null_start == 0
