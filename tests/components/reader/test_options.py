"""Options of the component and of a run: what they reach, and which values are refused."""

from __future__ import annotations

import pytest

from rom_haystack.components import ROMExtractiveReader

from .conftest import PASSAGES, QUERY, FakeEncoder


class TestOptions:
    def test_run_time_values_reach_the_encoder_zero_included(self, fake):
        fake.run(
            QUERY, PASSAGES, max_seq_length=100, stride=0, max_batch_size=3, answers_per_seq=2, overlap_threshold=0.0
        )
        options = fake._encoder.options
        assert (options.max_seq_length, options.stride, options.max_batch_size) == (100, 0, 3)
        assert (options.answers_per_seq, options.overlap_threshold) == (2, 0.0)

    def test_none_means_the_value_of_the_component(self, tiny_checkpoint):
        reader = ROMExtractiveReader(
            model=tiny_checkpoint, max_seq_length=99, stride=0, overlap_threshold=None, answers_per_seq=4,
            max_answer_length=5, max_query_length=9, passage_score_weight=0.0,
        )  # fmt: skip
        reader._encoder = FakeEncoder({})
        reader.run(QUERY, PASSAGES)
        options = reader._encoder.options
        assert (options.max_seq_length, options.stride, options.overlap_threshold) == (99, 0, None)
        assert (options.answers_per_seq, options.max_batch_size) == (4, None)
        assert (options.max_answer_length, options.max_query_length, options.passage_score_weight) == (5, 9, 0.0)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"top_k": -1},
            {"stride": 5000},
            {"max_seq_length": 10},
            {"answers_per_seq": 0},
            {"max_answer_length": 0},
            {"passage_score_weight": 1.5},
            {"calibration_factor": 0.0},
            {"max_batch_size": 0},
            {"context_window_size": 0},
            {"model_kwargs": {"trust_remote_code": True}},
            {"backend": "tensorflow"},
            {"adaptive_reading": "slow"},
        ],
    )
    def test_bad_values_fail_at_construction(self, tiny_checkpoint, wrong):
        name = next(iter(wrong))
        with pytest.raises(ValueError, match="trust_remote_code" if name == "model_kwargs" else name):
            ROMExtractiveReader(model=tiny_checkpoint, **wrong)

    @pytest.mark.parametrize("wrong", [{"top_k": -1}, {"answers_per_seq": 0}, {"stride": -1}])
    def test_bad_values_fail_at_run_time(self, fake, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            fake.run(QUERY, PASSAGES, **wrong)

    @pytest.mark.parametrize("blank", ["", " \n"])
    def test_blank_query(self, reader, blank):
        with pytest.raises(ValueError, match="query is empty"):
            reader.run(blank, PASSAGES)

    def test_a_single_query_where_a_list_is_due(self, reader):
        with pytest.raises(TypeError, match="found a single str"):
            reader.run_batch("Who?", [PASSAGES] * 4)
