"""Reading passages in turn, until nothing can change."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from rom_haystack.inference import ReadingOptions
from rom_haystack.inference.stopping import StoppingRule

PASSAGES = [
    f"The {name} flows through {n} countries." for n, name in enumerate(("Nile", "Rhine", "Ob", "Po", "Don", "Ebro"))
]


class TestReadingInTurn:
    def test_groups_in_order_with_the_answers_of_one_reading(self, tiny_encoder):
        expected = tiny_encoder.read(["Who?"] * len(PASSAGES), PASSAGES)
        groups = list(tiny_encoder.read_in_turn("Who?", PASSAGES, group_size=4))
        assert [len(group) for group in groups] == [4, 2]
        for one, other in zip(chain.from_iterable(groups), expected, strict=True):
            got, wanted = ({(a.start, a.end): a.logit for a in answers} for answers in (one, other))
            assert got == pytest.approx(wanted, abs=1e-4)

    def test_nothing_is_read_before_it_is_asked_for(self, fake_encoder):
        encoder = fake_encoder()
        turns = encoder.read_in_turn("Who?", PASSAGES)
        assert len(encoder.backend.calls) == 0
        next(turns)
        assert [len(call) for call in encoder.backend.calls] == [2]

    def test_no_passages(self, tiny_encoder):
        assert list(tiny_encoder.read_in_turn("Who?", [])) == []

    def test_groups_of_nothing(self, tiny_encoder):
        with pytest.raises(ValueError, match="group_size is 0; it must be at least 1"):
            tiny_encoder.read_in_turn("Who?", PASSAGES, group_size=0)


class TestReadingUntilSettled:
    @pytest.fixture
    def encoder(self, fake_encoder):
        """Answers in `PASSAGES` have the log-odds 1, 2, 3, …; `cautious` stops at 4, `fast` at 2, `never` never."""
        relevances = iter(range(1, 1000))

        def outputs_of(tokens):
            logits = np.zeros(len(tokens), dtype=np.float32)
            return {"start_logits": logits, "end_logits": logits, "relevance_logits": np.float32(next(relevances))}

        levels = {"cautious": 4.0, "fast": 2.0, "at once": -1e9, "never": 1e9}
        stopping = {name: StoppingRule(level, 0.0, passage_score_weight=1.0) for name, level in levels.items()}
        return fake_encoder(outputs_of, stopping=stopping)

    @pytest.mark.parametrize(
        ("setting", "read"), [("off", 6), ("never", 6), ("cautious", 4), ("fast", 2), ("at once", 2)]
    )
    def test_stops_once_settled(self, encoder, setting, read):
        options = ReadingOptions(passage_score_weight=1.0)
        answers = encoder.read_until_settled("Who?", PASSAGES, options, setting=setting)
        assert [bool(found) for found in answers] == [True] * read + [False] * (6 - read)
        assert sum(len(call) for call in encoder.backend.calls) == read
        assert {len(call) for call in encoder.backend.calls} == {6 if setting == "off" else 2}

    def test_every_stream_of_the_engine_has_two_passages_of_a_group(self, encoder):
        encoder.backend.parallel = 2
        encoder.read_until_settled("Who?", PASSAGES, ReadingOptions(passage_score_weight=1.0), setting="fast")
        assert [len(call) for call in encoder.backend.calls] == [4]

    def test_blank_passages_count_as_read(self, encoder):
        options = ReadingOptions(passage_score_weight=1.0)
        answers = encoder.read_until_settled("Who?", ["", " ", *PASSAGES], options, setting="fast")
        assert [bool(found) for found in answers] == [False, False, True, True, False, False, False, False]

    def test_the_bound_may_fall_as_passages_are_read(self, fake_encoder):
        encoder = fake_encoder(stopping={"fast": StoppingRule(-100.0, 150.0)})
        answers = encoder.read_until_settled("Who?", PASSAGES, setting="fast")
        # 150 ln(6 / read) - 100 is above any noise for 2 passages read, below it for 4
        assert [bool(found) for found in answers] == [True] * 4 + [False] * 2

    def test_no_passages(self, encoder):
        options = ReadingOptions(passage_score_weight=1.0)
        assert encoder.read_until_settled("Who?", [], options, setting="fast") == []

    def test_settings_that_the_model_was_not_calibrated_for(self, encoder, tiny_encoder):
        with pytest.raises(ValueError, match=r"adaptive_reading is 'fast'.*python -m training calibrate"):
            tiny_encoder.read_until_settled("Who?", PASSAGES, setting="fast")
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.5, but .*'fast' .* with 1\.0"):
            encoder.read_until_settled("Who?", PASSAGES, setting="fast")
        assert encoder.read_until_settled("Who?", PASSAGES, setting="off")
