"""The offset law: every answer is its passage from start to end, whatever the text and the tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rom_haystack.inference import ReadingOptions, ROMEncoder

WINDOWS = [
    ReadingOptions(max_seq_length=24, stride=0, max_query_length=6),
    ReadingOptions(max_seq_length=40, stride=8, max_query_length=12),
    ReadingOptions(max_seq_length=12, stride=3, max_query_length=3, max_answer_length=2, overlap_threshold=None),
    ReadingOptions(),
]
#: Letters, marks, joiners, emoji, right-to-left, controls, lone surrogates: whatever a Python str can hold.
UNICODE = st.text(st.characters(exclude_categories=[]), max_size=120)
TRICKY = st.lists(
    st.sampled_from(
        [
            *(
                "the",
                " ",
                "\u200d",
                "👩",
                "💻",
                "👍",
                "🏽",
                "e\u0301",
                "\u0301",
                "ﬁ",
                "İ",
                "ß",
                "हि",
                "न्",
                "שלום",
                "日本",
            ),
            *("\u202e", "\x00", "\x85", "\u2028", "\t", "\n", "\ufeff", "\u00a0", "12.5", "’s", "-", "ﷺ", "🇩🇪"),
            *("[SEP]", "[CLS]", "</s>", "x" * 120),
        ]
    ),
    max_size=40,
).map("".join)


class TestOffsets:
    @pytest.mark.parametrize("options", WINDOWS)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=UNICODE | TRICKY, passage=UNICODE | TRICKY)
    def test_every_answer_quotes_its_passage(self, tiny_encoder, options, query, passage):
        self.check(tiny_encoder, options, query, passage)

    @pytest.mark.parametrize("options", WINDOWS)
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=UNICODE | TRICKY, passage=UNICODE | TRICKY)
    def test_every_answer_quotes_its_passage_with_byte_tokens(self, byte_encoder, options, query, passage):
        self.check(byte_encoder, options, query, passage)

    def check(self, encoder, options, query, passage):
        (answers,) = encoder.read([query], [passage], options)
        for answer in answers:
            assert 0 <= answer.start < answer.end <= len(passage)
            assert passage[answer.start : answer.end] == answer.text == answer.text.strip() != ""
            assert 0 <= answer.score <= 1
        assert len(answers) <= options.answers_per_seq

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=(UNICODE | TRICKY).map(lambda text: text * 5), limit=st.integers(1, 12))
    def test_any_long_query_leaves_room_for_the_passage(self, tiny_encoder, byte_encoder, query, limit):
        options = ReadingOptions(max_seq_length=limit + 5, stride=0, max_query_length=limit)
        for encoder in (tiny_encoder, byte_encoder):
            assert query.startswith(encoder.clip_query(query, limit))
            assert encoder.read([query], ["one two three"], options)[0]

    def test_answers_begin_and_end_with_words(self, tiny_encoder):
        passage = "Photosynthesis turns sunlight into sugars, quickly."
        (answers,) = tiny_encoder.read(
            ["What?"], [passage], ReadingOptions(answers_per_seq=200, overlap_threshold=None)
        )
        inner = {0, len(passage)} | {i for i in range(1, len(passage)) if not passage[i - 1 : i + 1].isalpha()}
        assert answers
        assert all({a.start, a.end} <= inner for a in answers)


def test_lone_surrogates_neither_crash_nor_move_offsets(tiny_encoder):
    passage = "Marie \ud83d Curie found \udcff radium in 1898"
    assert tiny_encoder.encode_passages([passage]).shape == (1, 64)
    answers = tiny_encoder.read(["who \udcff found radium?"], [passage])[0]
    assert answers
    assert all(passage[a.start : a.end] == a.text for a in answers)


def test_pieces_that_hold_blanks_and_punctuation_can_be_quoted_without_them(tiny_model):
    """SentencePiece counts a word's punctuation as part of the word."""
    backend = Tokenizer(
        models.Unigram([("<unk>", 0.0), ("[SEP]", -9.0), *((f"{c}", -3.0) for c in "▁().,Parisnfd")], 0)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="[SEP] $A", pair="[SEP] $A [SEP] $B:1", special_tokens=[("[SEP]", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", sep_token="[SEP]", pad_token="[SEP]"
    )
    encoder = ROMEncoder.from_model(tiny_model, tokenizer)
    options = ReadingOptions(answers_per_seq=500, overlap_threshold=None)
    found = {answer.text for answer in encoder.read(["in"], ["find (Paris)."], options)[0]}
    assert {"Paris", "find", "(Paris)", "find (Paris)."} <= found
    assert not any(text.startswith("aris") or text.endswith("Par") for text in found)
