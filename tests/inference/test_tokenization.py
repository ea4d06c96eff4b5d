"""Tokenised texts and windows of pairs are what transformers makes of them, for every family of tokenizers."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rom_haystack.inference.facts import ModelFacts
from rom_haystack.inference.tokenization import TextTokenizer, _inside_words, splits_word

CORPUS = Path(__file__).parents[2] / "rom_haystack" / "sample_corpus"
#: Whatever a Python str can hold, and among it what tokenizers treat in ways of their own.
UNICODE = st.text(st.characters(exclude_categories=[]), max_size=150)
TRICKY = st.lists(
    st.sampled_from(
        [
            *("the", " river", "Photosynthesis", "unbelievably", " ", "  ", "\n", "\t", "\u00a0", "\u200d", "\u2028"),
            *("👩", "💻", "👍🏽", "🇩🇪", "e\u0301", "\u0301", "ﬁ", "İ", "ß", "हि", "न्", "שלום", "居里夫人", "ประเทศไทย"),
            *("12.5", "’s", "-", ".", "\x00", "\x85", "\ufeff", "\ud83d", "\udcff", "\ufffd", "x" * 120),
            *("[SEP]", "[CLS]", "[MASK]", "</s>", "<s>", "<mask>", "##s", "Ġ"),
        ]
    ),
    max_size=60,
).map("".join)
TEXTS = st.lists(UNICODE | TRICKY, min_size=1, max_size=4)
EVERY_FAMILY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def facts_for(tokenizer, *, token_types=None) -> ModelFacts:
    if token_types is None:
        token_types = "token_type_ids" in tokenizer.model_input_names
    return ModelFacts(8, "cosine", 512, tokenizer.pad_token_id or 0, " [SEP] ", token_types)


def ours(tokenizer, **options) -> TextTokenizer:
    return TextTokenizer(tokenizer.backend_tokenizer, facts_for(tokenizer), **options)


@pytest.fixture(scope="module")
def corpus() -> dict[str, str]:
    """Sample texts by name."""
    return {path.stem: path.read_text(encoding="utf-8")[:2000] for path in sorted(CORPUS.glob("*.md"))[:10]}


@pytest.fixture
def family_tokenizer(family) -> TextTokenizer:
    return ours(family.tokenizer)


def tokenizable(text):
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def types_of(encoded, index):
    return encoded["token_type_ids"][index] if "token_type_ids" in encoded else [0] * len(encoded["input_ids"][index])


def clipped_by_transformers(tokenizer, text, limit):
    """The plain way to clip: drop tokens until the cut is between characters."""
    offsets = tokenizer(tokenizable(text), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) <= limit:
        return text
    while limit and offsets[limit - 1][1] > offsets[limit][0]:
        limit -= 1
    return text[: offsets[limit - 1][1]] if limit else ""


def check_singles(reference, tokenizer, texts, max_length):
    encoded = reference([tokenizable(text) for text in texts], truncation=True, max_length=max_length)
    found = tokenizer.singles(texts, max_length)
    assert [tokens.input_ids.tolist() for tokens in found] == encoded["input_ids"]
    assert [tokens.token_type_ids.tolist() for tokens in found] == [types_of(encoded, i) for i in range(len(texts))]
    assert all(len(tokens) <= max_length for tokens in found)


def check_pairs(reference, tokenizer, queries, passages, *, max_seq_length, stride, max_query_length):
    found = tokenizer.pairs(
        queries, passages, max_seq_length=max_seq_length, stride=stride, max_query_length=max_query_length
    )
    readable = [index for index, passage in enumerate(passages) if passage.strip()]
    if not readable:
        assert (found.tokens, found.windows, found.owners) == ([], [], [])
        return
    encoded = reference(
        [tokenizable(clipped_by_transformers(reference, queries[index], max_query_length)) for index in readable],
        [tokenizable(passages[index]) for index in readable],
        truncation="only_second",
        max_length=max_seq_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert found.owners == [readable[index] for index in encoded["overflow_to_sample_mapping"]]
    assert [tokens.input_ids.tolist() for tokens in found.tokens] == encoded["input_ids"]
    for index, (tokens, window) in enumerate(zip(found.tokens, found.windows, strict=True)):
        assert tokens.token_type_ids.tolist() == types_of(encoded, index)
        check_window(window, encoded.encodings[index], passages[found.owners[index]])


def check_window(window, encoding, passage):
    assert len(window.offsets) == len(window.may_start) == len(window.may_end) == len(encoding)
    tokens = zip(encoding.sequence_ids, encoding.offsets, strict=True)
    for position, (sequence, (start, end)) in enumerate(tokens):
        of_passage = sequence == 1
        readable = of_passage and start < end
        assert window.offsets[position].tolist() == ([start, end] if of_passage else [0, 0])
        assert window.may_start[position] == (readable and not splits_word(passage, start))
        assert window.may_end[position] == (readable and not splits_word(passage, end))


class TestEveryFamily:
    @EVERY_FAMILY
    @given(texts=TEXTS, max_length=st.integers(2, 64))
    def test_single_texts(self, family, family_tokenizer, texts, max_length):
        check_singles(family.tokenizer, family_tokenizer, texts, max_length)

    @EVERY_FAMILY
    @given(
        pairs=st.lists(st.tuples(UNICODE | TRICKY, UNICODE | TRICKY), min_size=1, max_size=4),
        max_query_length=st.integers(1, 12),
        room=st.integers(1, 40),
        data=st.data(),
    )
    def test_pairs(self, family, family_tokenizer, pairs, max_query_length, room, data):
        check_pairs(
            family.tokenizer,
            family_tokenizer,
            [query for query, _ in pairs],
            [passage for _, passage in pairs],
            max_seq_length=max_query_length + 4 + room,
            stride=data.draw(st.integers(0, room - 1)),
            max_query_length=max_query_length,
        )

    @EVERY_FAMILY
    @given(query=UNICODE | TRICKY, limit=st.integers(1, 30))
    def test_clipped_queries(self, family, family_tokenizer, query, limit):
        clipped = family_tokenizer.clip_query(query, limit)
        assert clipped == clipped_by_transformers(family.tokenizer, query, limit)
        assert query.startswith(clipped)

    def test_sample_corpus(self, family, family_tokenizer, corpus):
        for max_seq_length, stride in [(64, 0), (64, 40), (128, 64), (512, 128)]:
            queries = [f"What is {name}?" for name in corpus]
            check_pairs(
                family.tokenizer,
                family_tokenizer,
                queries,
                list(corpus.values()),
                max_seq_length=max_seq_length,
                stride=stride,
                max_query_length=16,
            )
        check_singles(family.tokenizer, family_tokenizer, list(corpus.values()), 256)


def reading(**changes):
    return {"max_seq_length": 40, "stride": 8, "max_query_length": 12, **changes}


TEMPLATES = {
    "bert": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "roberta": processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2), trim_offsets=True, add_prefix_space=False),
    "nothing before the query": processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] [SEP] $B:1", special_tokens=[("[SEP]", 3)]
    ),
    "passage first": processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS]:1 $B:1 [SEP]:0 $A:0 [SEP]:2", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    ),
}


class TestTemplates:
    """Special tokens stand where each tokenizer's own template puts them."""

    @pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
    @EVERY_FAMILY
    @given(query=TRICKY, passage=TRICKY)
    def test_word_pieces(self, tiny_tokenizer, template, query, passage):
        self.check(tiny_tokenizer, template, query, passage)

    @pytest.mark.parametrize(
        "template", [*TEMPLATES.values(), processors.ByteLevel(trim_offsets=True)], ids=[*TEMPLATES, "bytes"]
    )
    @EVERY_FAMILY
    @given(query=TRICKY, passage=TRICKY)
    def test_bytes(self, byte_tokenizer, template, query, passage):
        self.check(byte_tokenizer, template, query, passage)

    def check(self, fixture, template, query, passage):
        reference = copy.deepcopy(fixture)
        reference.backend_tokenizer.post_processor = template
        tokenizer = ours(reference)
        check_singles(reference, tokenizer, [query, passage], 20)
        check_pairs(reference, tokenizer, [query], [passage], **reading())

    def test_pieces_that_hold_blanks_and_punctuation(self):
        backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("[SEP]", -9.0), *((c, -3.0) for c in "▁().,Prisnfd")], 0))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.post_processor = processors.TemplateProcessing(
            single="[SEP] $A", pair="[SEP] $A [SEP] $B:1", special_tokens=[("[SEP]", 1)]
        )
        reference = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="[SEP]")
        tokenizer = ours(reference)
        for passage in ["find (Paris).", " (Paris) ", "x\u00a0 [SEP]", "\u2028"]:
            check_pairs(reference, tokenizer, ["in", ""], [passage] * 2, **reading(max_seq_length=20, stride=2))

    def test_none(self, byte_tokenizer):
        """Where windows of such tokenizers begin, tokenizers forgets which tokens are the passage's; we do not."""
        backend = copy.deepcopy(byte_tokenizer).backend_tokenizer
        backend.post_processor = None
        tokenizer = TextTokenizer(backend, facts_for(byte_tokenizer))
        query, passage = (backend.encode(text) for text in ("what", "the river flows to the sea and beyond"))
        found = tokenizer.pairs(
            ["what"], ["the river flows to the sea and beyond"], **reading(max_seq_length=12, stride=2)
        )
        assert len(found.windows) > 1
        assert found.tokens[0].input_ids.tolist() == (query.ids + passage.ids)[:12]
        rest = len(found.tokens[-1]) - len(query)
        assert found.tokens[-1].input_ids.tolist() == query.ids + passage.ids[-rest:]
        assert [tuple(place) for place in found.windows[-1].offsets.tolist()] == (
            [(0, 0)] * len(query) + passage.offsets[-rest:]
        )

    def test_only_encoders_with_segments_are_told_of_them(self, tiny_tokenizer):
        told, untold = (
            TextTokenizer(tiny_tokenizer.backend_tokenizer, facts_for(tiny_tokenizer, token_types=told))
            for told in (True, False)
        )
        (with_types,) = told.pairs(["what is it"], ["a river"], **reading()).tokens
        (without,) = untold.pairs(["what is it"], ["a river"], **reading()).tokens
        assert set(with_types.token_type_ids) == {0, 1}
        assert without.token_type_ids.tolist() == [0] * len(with_types)
        assert without.input_ids.tolist() == with_types.input_ids.tolist()

    def test_a_vocabulary_without_the_letter_a(self):
        backend = Tokenizer(models.BPE({"r": 0, "[SEP]": 1}, []))
        backend.post_processor = processors.BertProcessing(("[SEP]", 1), ("[SEP]", 1))
        reference = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[SEP]")
        check_pairs(reference, ours(reference), ["r", "a"], ["river rr", "a"], **reading())

    def test_a_tokenizer_without_tokens(self):
        tokenizer = Tokenizer(models.BPE())
        with pytest.raises(ValueError, match="finds no token in any text"):
            TextTokenizer(tokenizer, ModelFacts(8, "cosine", 512, 0, " ", uses_token_types=False))


@pytest.fixture
def tokenizer(tiny_tokenizer) -> TextTokenizer:
    return ours(tiny_tokenizer)


class TestSpecialCases:
    @pytest.mark.parametrize("texts", [[], [""], ["  "], ["\u200d"], ["\ud83d"], ["[SEP]"], ["", "river", ""]])
    def test_single_texts(self, tiny_tokenizer, tokenizer, texts):
        if texts:
            check_singles(tiny_tokenizer, tokenizer, texts, 16)
        else:
            assert tokenizer.singles([], 16) == []

    @pytest.mark.parametrize(
        "passages",
        [
            [],
            ["", " \n\u3000", "\u2028"],
            ["\x00"],  # no white space, and yet no tokens
            ["", "river", " ", "stone", ""],
            ["a lone \ud83d surrogate \udcff"],
            ["title [SEP] text"],
            ["river"] * 3,
            ["river " * 3000],
        ],
    )
    def test_passages(self, tiny_tokenizer, tokenizer, passages):
        check_pairs(tiny_tokenizer, tokenizer, ["what is it?"] * len(passages), passages, **reading())

    def test_a_passage_of_white_space_needs_no_query(self, tokenizer):
        assert tokenizer.pairs(["any"], [" "], **reading()).owners == []

    def test_exactly_as_many_tokens_as_fit_and_one_more(self, tiny_tokenizer, tokenizer):
        options = reading(max_seq_length=20, stride=5)
        room = 20 - 3 - 2  # special tokens, and the query
        for count, windows in [(room, 1), (room + 1, 2), (room + 10, 2), (room + 11, 3)]:
            assert len(tokenizer.pairs(["the the"], ["the " * count], **options).windows) == windows
            check_pairs(tiny_tokenizer, tokenizer, ["the the"], ["the " * count], **options)

    def test_no_room_for_special_tokens(self, tokenizer):
        with pytest.raises(ValueError, match="max_length is 1; a text's special tokens alone are 2"):
            tokenizer.singles(["river"], 1)

    @pytest.mark.parametrize(("max_seq_length", "room"), [(9, 2), (8, 1), (5, 0), (1, 0)])
    def test_no_room_for_the_passage(self, tokenizer, max_seq_length, room):
        with pytest.raises(ValueError, match=f"room for {room} tokens of the passage.*Raise max_seq_length"):
            tokenizer.pairs(["the the the the"], ["the the the"], **reading(max_seq_length=max_seq_length, stride=2))

    def test_a_short_passage_needs_no_more_room_than_its_own(self, tiny_tokenizer, tokenizer):
        check_pairs(tiny_tokenizer, tokenizer, ["the the"], ["the the"], **reading(max_seq_length=7, stride=2))

    def test_many_texts(self, tokenizer):
        texts = [f"river {number}" for number in range(2500)]
        found = tokenizer.singles(texts, 16)
        assert [tokens.input_ids.tolist() for tokens in found] == [
            tokenizer.singles([text], 16)[0].input_ids.tolist() for text in texts
        ]


class TestTheGivenTokenizer:
    def test_its_truncation_and_padding_do_not_matter_and_stay(self, tiny_tokenizer):
        given = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
        given.enable_truncation(5, stride=2)
        given.enable_padding(length=100)
        before = given.to_str()
        tokenizer = TextTokenizer(given, facts_for(tiny_tokenizer))
        text = "the river flows to the sea and beyond"
        assert len(tokenizer.singles([text], 64)[0]) > 10
        assert len(tokenizer.pairs([text], [text], **reading()).tokens[0]) > 20
        assert given.to_str() == before

    def test_later_changes_to_it_do_not_matter(self, tiny_tokenizer):
        given = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
        tokenizer = TextTokenizer(given, facts_for(tiny_tokenizer))
        before = tokenizer.singles(["the river flows"], 64)[0].input_ids.tolist()
        given.enable_truncation(3)
        assert tokenizer.singles(["the river flows"], 64)[0].input_ids.tolist() == before

    @pytest.mark.parametrize("split", [True, False])
    def test_special_tokens_in_a_text_are_split_or_not(self, tiny_tokenizer, split):
        reference = copy.deepcopy(tiny_tokenizer)
        reference.split_special_tokens = split
        reference("any")  # hands the setting on
        tokenizer = ours(reference)
        check_singles(reference, tokenizer, ["the [SEP] river"], 16)
        assert (3 in tokenizer.singles(["the [SEP] river"], 16)[0].input_ids[1:-1]) is not split


class Spy(TextTokenizer):
    """Keeps account of what is tokenised."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.encoded = []

    def _encode(self, texts, **options):
        self.encoded += texts
        return super()._encode(texts, **options)


class TestCache:
    @pytest.fixture
    def spy(self, tiny_tokenizer):
        def make(cached_tokens):
            return Spy(tiny_tokenizer.backend_tokenizer, facts_for(tiny_tokenizer), cached_tokens=cached_tokens)

        return make

    def read(self, spy, *passages):
        """Return which passages had to be tokenised."""
        spy.encoded.clear()
        spy.pairs(["the"] * len(passages), passages, **reading(max_seq_length=512))
        return sorted(text for text in spy.encoded if text != "the")

    def test_a_passage_is_tokenised_once(self, spy):
        spy = spy(100)
        assert self.read(spy, "the river", "the river", "the sea") == ["the river", "the sea"]
        assert self.read(spy, "the sea", "the river", "the hill") == ["the hill"]

    def test_the_least_recently_used_goes_first(self, spy):
        spy = spy(30)
        first, second, third, fourth = (f"{name} the the the the the the the the the" for name in "abcd")
        self.read(spy, first)
        self.read(spy, second)
        self.read(spy, third)
        assert self.read(spy, first) == []
        assert self.read(spy, fourth) == [fourth]  # in place of the second
        assert self.read(spy, first) == self.read(spy, third) == []
        assert self.read(spy, second) == [second]

    def test_more_than_fits_is_read_all_the_same(self, spy, tiny_tokenizer):
        spy = spy(20)
        passages = [f"{name} the the the" for name in "abcdefghijklmnop"]
        assert len(spy.pairs(["the"] * 16, passages, **reading()).tokens) == 16
        assert self.read(spy, *passages[-5:]) == []
        check_pairs(tiny_tokenizer, spy, ["the"] * 16, passages, **reading())

    def test_what_never_fits_drives_nothing_out(self, spy):
        spy = spy(20)
        self.read(spy, "the river")
        huge = "the " * 21
        assert self.read(spy, huge) == self.read(spy, huge) == [huge]
        assert self.read(spy, "the river") == []

    def test_long_texts_of_few_tokens_count_by_their_length(self, spy):
        spy = spy(20)
        long_word = "x" * 1000  # one unknown token
        assert self.read(spy, long_word) == self.read(spy, long_word) == [long_word]

    def test_none_at_all(self, spy):
        spy = spy(0)
        assert self.read(spy, "the river") == self.read(spy, "the river") == ["the river"]

    def test_results_are_the_readers_own(self, tokenizer):
        before = tokenizer.pairs(["the"], ["the river"], **reading())
        for array in (before.tokens[0].input_ids, before.windows[0].offsets, before.windows[0].may_start):
            array[:] = 0
        after = tokenizer.pairs(["the"], ["the river"], **reading())
        assert after.tokens[0].input_ids.all()
        assert after.windows[0].offsets.any()
        assert after.windows[0].may_start.any()


def test_threads_get_what_one_gets(tiny_tokenizer, corpus):
    passages = [text[:1000] for text in corpus.values()]
    options = reading(max_seq_length=64, stride=16)
    expected = ours(tiny_tokenizer).pairs(passages, passages, **options)
    shared = ours(tiny_tokenizer, cached_tokens=1000)  # small, so that passages come and go

    def read(turn):
        order = np.random.default_rng(turn).permutation(len(passages)).tolist()
        shuffled = [passages[index] for index in order]
        found = shared.pairs(shuffled, shuffled, **options)
        for tokens, window, owner in zip(found.tokens, found.windows, found.owners, strict=True):
            yield order[owner], tokens.input_ids.tolist(), window.offsets.tolist(), window.may_end.tolist()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda turn: sorted(read(turn)), range(24)))
    assert results == [
        sorted(
            (owner, tokens.input_ids.tolist(), window.offsets.tolist(), window.may_end.tolist())
            for tokens, window, owner in zip(expected.tokens, expected.windows, expected.owners, strict=True)
        )
    ] * len(results)
    assert shared._cache._used == sum(map(len, shared._cache._passages.values())) <= 1000


@settings(max_examples=200)
@given(UNICODE | TRICKY)
def test_words_of_a_whole_text_at_once(text):
    expected = [splits_word(text, position) for position in range(len(text) + 1)]
    assert _inside_words(text).tolist() == expected


def test_words_of_every_kind_of_character():
    """Each character between letters, so that its own kind alone decides."""
    characters = [
        chr(code) for code in (*range(0x20100), *range(0x3FF00, 0x40100), *range(0xE0000, sys.maxunicode, 99))
    ]
    found = _inside_words("a".join(characters))
    assert found[1::2].tolist() == [splits_word(f"{character}a", 1) for character in characters[:-1]] + [False]


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("Marie Curie.", [0, 5, 6, 11, 12]),
        ("1990s", [0, 5]),
        ("e\u0301te\u0301", [0, 5]),  # a combining mark is part of its word
        ("привет", [0, 6]),
        ("居里夫人", [0, 1, 2, 3, 4]),  # scripts without blanks
        ("ไทย", [0, 1, 2, 3]),
        ("カナ", [0, 1, 2]),
        ("x人y", [0, 1, 2, 3]),
        ("한국", [0, 2]),
    ],
)
def test_where_words_can_be_cut(text, cuts):
    assert np.flatnonzero(~_inside_words(text)).tolist() == cuts
    assert [position for position in range(len(text) + 1) if not splits_word(text, position)] == cuts
