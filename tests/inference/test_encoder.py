"""ROMEncoder judges and reads passages, for one caller and for several, with a tiny random model."""

from __future__ import annotations

import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from rom_haystack.inference import ReadingOptions
from rom_haystack.inference import encoder as encoder_module
from rom_haystack.inference.reading import sigmoid

from .conftest import TEXTS, encoder_of

PASSAGES = [text for text in TEXTS if text]
SMALL = {"max_seq_length": 40, "stride": 8, "max_query_length": 12}


def spans(answers):
    return [(a.start, a.end) for a in answers]


def assert_same_answers(one, other):
    """Compare by span: among near-equal scores the order may differ in the last bits."""
    assert set(spans(one)) == set(spans(other))
    for figure in ("score", "logit"):
        got, expected = ({(a.start, a.end): getattr(a, figure) for a in answers} for answers in (one, other))
        assert got == pytest.approx(expected, abs=1e-4)


class TestRelevance:
    def test_batched_equals_single_in_order(self, family):
        encoder = encoder_of(family)
        options = ReadingOptions(**SMALL)
        queries = [f"question {n}?" for n in range(len(TEXTS))]
        together = encoder.relevance(queries, TEXTS, options)
        alone = [encoder.relevance([q], [text], options)[0] for q, text in zip(queries, TEXTS, strict=True)]
        assert all(type(log_odds) is float for log_odds in together)
        assert together == pytest.approx(alone, abs=1e-5)
        assert len(set(together)) == len(TEXTS)

    def test_is_what_reading_weighs_spans_with(self, tiny_encoder):
        options = ReadingOptions(**SMALL, passage_score_weight=1.0)
        queries = ["Which river?"] * len(PASSAGES)
        best = [answers[0].logit for answers in tiny_encoder.read(queries, PASSAGES, options)]
        assert tiny_encoder.relevance(queries, PASSAGES, options) == pytest.approx(best, abs=1e-5)

    def test_of_several_windows_the_most_relevant_counts(self, fake_encoder, tiny_tokenizer):
        passage = " ".join(["water"] * 50 + ["comets"] + ["water"] * 50)
        target = tiny_tokenizer("comets", add_special_tokens=False)["input_ids"][0]
        windows = []

        def outputs_of(tokens):
            windows.append(target in tokens.input_ids)
            return {"relevance_logits": np.float32(1.5 if windows[-1] else -2.0)}

        encoder = fake_encoder(outputs_of)
        assert encoder.relevance(["What?", "What?"], [passage, "water"], ReadingOptions(**SMALL)) == [1.5, -2.0]
        assert windows.count(True) in (1, 2)
        assert windows.count(False) >= 3

    def test_what_has_no_text_is_never_relevant(self, tiny_encoder):
        found = tiny_encoder.relevance(["a"] * 4, ["", "water", " \n", ""])
        assert [np.isfinite(log_odds) for log_odds in found] == [False, True, False, False]
        assert found[0] == -np.inf

    def test_nothing_to_judge(self, tiny_encoder):
        assert tiny_encoder.relevance([], []) == []

    def test_a_long_job_is_done_in_pieces(self, tiny_encoder, monkeypatch):
        queries, passages = ["Which river?"] * 14, TEXTS * 2
        expected = tiny_encoder.relevance(queries, passages)
        monkeypatch.setattr(encoder_module, "_CHARACTERS_AT_ONCE", 60)
        assert tiny_encoder.relevance(queries, passages) == pytest.approx(expected, abs=1e-5)

    def test_what_can_not_be(self, tiny_encoder, family):
        with pytest.raises(ValueError, match="2 queries for 1 passages"):
            tiny_encoder.relevance(["a", "b"], ["c"])
        with pytest.raises(ValueError, match="384 tokens was asked for; this checkpoint takes 2 to 64"):
            encoder_of(family).relevance(["a"], ["b"])


class TestReading:
    @pytest.mark.parametrize("passage", PASSAGES)
    def test_texts_with_words_have_answers(self, tiny_encoder, byte_encoder, passage):
        for encoder in (tiny_encoder, byte_encoder):
            assert encoder.read(["What?"], [passage], ReadingOptions(**SMALL))[0]

    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_no_answer_is_longer_than_the_limit(self, tiny_encoder, tiny_tokenizer, limit):
        passage = "one two three four five six seven eight nine ten " * 6
        options = ReadingOptions(**SMALL, max_answer_length=limit, overlap_threshold=None, answers_per_seq=500)
        (answers,) = tiny_encoder.read(["How many?"], [passage], options)
        sizes = [len(tiny_tokenizer(a.text, add_special_tokens=False)["input_ids"]) for a in answers]
        assert max(sizes) == limit

    @pytest.mark.parametrize("limit", [1, 3, 50])
    def test_answers_per_passage(self, tiny_encoder, limit):
        options = ReadingOptions(**SMALL, answers_per_seq=limit)
        many, few = tiny_encoder.read(["How many?"] * 2, ["one two three four " * 40, "one"], options)
        assert len(few) == 1
        assert len(many) == limit or (limit == 50 and 3 < len(many) <= 50)
        assert many == sorted(many, key=lambda a: -a.score)

    def test_answers_do_not_overlap(self, tiny_encoder):
        (answers,) = tiny_encoder.read(["Where?"], [TEXTS[2]], ReadingOptions(**SMALL))
        ordered = sorted(spans(answers))
        assert len(ordered) > 3
        assert all(end <= start for (_, end), (start, _) in pairwise(ordered))

    def test_a_span_seen_in_two_windows_is_one_answer(self, tiny_encoder):
        options = ReadingOptions(
            max_seq_length=24, stride=15, max_query_length=4, overlap_threshold=None, answers_per_seq=500
        )
        (answers,) = tiny_encoder.read(["Where?"], [TEXTS[2]], options)
        assert len(answers) > 100
        assert len(set(spans(answers))) == len(answers)

    @pytest.mark.parametrize("place", [0.02, 0.3, 0.71, 0.999])
    def test_planted_answer_is_found_anywhere_in_a_long_passage(self, fake_encoder, tiny_tokenizer, place):
        words = ["water"] * 2000
        words[int(place * 2000)] = "comets"
        passage = " ".join(words)
        target = tiny_tokenizer("comets", add_special_tokens=False)["input_ids"]

        def outputs_of(tokens):
            starts, ends = np.zeros((2, len(tokens)), dtype=np.float32)
            ids = tokens.input_ids.tolist()
            for i in range(len(ids)):
                if ids[i : i + len(target)] == target:
                    starts[i] = ends[i + len(target) - 1] = 9.0
            return {"start_logits": starts, "end_logits": ends, "relevance_logits": np.float32(1)}

        (answers,) = fake_encoder(outputs_of).read(["What?"], [passage], ReadingOptions())
        assert answers[0].text == "comets"
        assert answers[0].start == passage.index("comets")
        assert answers[0].logit == pytest.approx(0.5 * 9.0 + 0.5 * 1.0)

    def test_a_large_document_is_read_in_windows_that_fit(self, fake_encoder, tiny_tokenizer):
        sentences = (
            f"River {n} flows north through {n % 97} countries, and its water feeds them. " for n in range(8000)
        )
        passage = "".join(sentences)[:500_000] + " They end in Zanzibar."
        encoder = fake_encoder(token_budget=4000)
        (answers,) = encoder.read(["Where?"], [passage])
        assert len(answers) == 20
        assert all(passage[a.start : a.end] == a.text for a in answers)
        windows = list(chain.from_iterable(encoder.backend.calls))
        texts = [tiny_tokenizer.decode(window.input_ids).replace(" ##", "") for window in windows]
        assert sum("zanzibar" in text for text in texts) == 1
        assert max(map(len, windows)) == 384
        assert max(sum(map(len, call)) for call in encoder.backend.calls) <= 4000

    def test_more_pairs_than_are_read_in_one_go(self, fake_encoder, monkeypatch):
        expected = fake_encoder().read(["Who?"] * 6, PASSAGES)
        fill = sum(len(passage) + 1 for passage in PASSAGES[:4])
        monkeypatch.setattr(encoder_module, "_CHARACTERS_AT_ONCE", fill - 1)
        encoder = fake_encoder()
        assert encoder.read(["Who?"] * 6, PASSAGES) == expected
        assert [len(call) for call in encoder.backend.calls] == [4, 2]

    def test_more_texts_than_are_embedded_in_one_go(self, tiny_encoder, monkeypatch):
        expected = tiny_encoder.encode_passages(PASSAGES)
        monkeypatch.setattr(encoder_module, "_TEXTS_AT_ONCE", 2)
        np.testing.assert_allclose(tiny_encoder.encode_passages(PASSAGES), expected, atol=1e-6)

    def test_a_large_document_is_read_in_bounded_memory(self, tiny_encoder):
        passage = ("The Nile flows north through eleven countries, and its water feeds them. " * 3000)[:150_000]
        tracemalloc.start()
        try:
            (answers,) = tiny_encoder.read(["Where does the Nile flow?"], [passage])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(answers) == 20
        assert all(passage[a.start : a.end] == a.text for a in answers)
        assert peak < 200 * len(passage)  # an L x L score matrix would take gigabytes

    def test_query_longer_than_the_limit_is_cut(self, tiny_encoder, tiny_tokenizer):
        long = "what water flows north " * 100
        clipped = tiny_encoder.clip_query(long, 12)
        assert long.startswith(clipped)
        assert len(tiny_tokenizer(clipped, add_special_tokens=False)["input_ids"]) == 12
        options = ReadingOptions(**SMALL)
        got, expected = tiny_encoder.read([long, clipped], [TEXTS[0]] * 2, options)
        assert got
        assert_same_answers(got, expected)

    @pytest.mark.parametrize("passage", ["", " ", "\n\t \u3000"])
    def test_blank_passages_have_no_answers(self, tiny_encoder, passage):
        alone = tiny_encoder.read(["Who?"], [passage])
        beside = tiny_encoder.read(["Who?"] * 3, [passage, TEXTS[0], passage])
        assert alone == [[]]
        assert [bool(answers) for answers in beside] == [False, True, False]

    @pytest.mark.parametrize("query", ["", "  ", "\x00"])
    def test_blank_queries_are_read_like_others(self, tiny_encoder, query):
        (answers,) = tiny_encoder.read([query], [TEXTS[0]])
        assert answers

    def test_no_pairs(self, tiny_encoder):
        assert tiny_encoder.read([], []) == []

    def test_as_many_queries_as_passages(self, tiny_encoder):
        with pytest.raises(ValueError, match="2 queries for 1 passages"):
            tiny_encoder.read(["a", "b"], ["c"])

    def test_scores_do_not_depend_on_the_company(self, family):
        encoder = encoder_of(family)
        queries = [f"{word} is it?" for word in ("Who", "What", "Where of all the places", "When", "Why", "How")]
        every = {**SMALL, "max_answer_length": 4, "answers_per_seq": 5000, "overlap_threshold": None}
        options = ReadingOptions(**every)
        expected = encoder.read(queries, PASSAGES, options)
        order = list(range(len(PASSAGES)))
        random.Random(5).shuffle(order)
        shuffled = encoder.read([queries[i] for i in order], [PASSAGES[i] for i in order], options)
        for place, index in enumerate(order):
            assert_same_answers(shuffled[place], expected[index])
        for size in (1, 3):
            for got, wanted in zip(
                encoder.read(queries, PASSAGES, ReadingOptions(**every, max_batch_size=size)), expected, strict=True
            ):
                assert_same_answers(got, wanted)
        for query, passage, wanted in zip(queries, PASSAGES, expected, strict=True):
            assert_same_answers(encoder.read([query], [passage], options)[0], wanted)

    def test_score_combines_span_and_relevance(self, tiny_encoder, tiny_model, tiny_tokenizer):
        query, passage = "What are comets?", TEXTS[0]
        tokens = tiny_tokenizer(query, passage, return_tensors="pt", return_offsets_mapping=True)
        offsets = tokens.pop("offset_mapping")[0].tolist()
        inside = [i for i, s in enumerate(tokens.sequence_ids(0)) if s == 1]
        with torch.inference_mode():
            outputs = tiny_model(**tokens, head="reading")
        start, end = outputs["start_logits"][0], outputs["end_logits"][0]
        for weight in (0.0, 0.4, 1.0):
            options = ReadingOptions(passage_score_weight=weight, calibration_factor=0.3)
            best = tiny_encoder.read([query], [passage], options)[0][0]
            first = next(i for i in inside if offsets[i][0] == best.start)
            last = next(i for i in inside if offsets[i][1] == best.end)
            span = float(start[first] + end[last] - start[0] - end[0]) / 2
            logit = (1 - weight) * span + weight * float(outputs["relevance_logits"][0])
            assert best.logit == pytest.approx(logit, abs=1e-4)
            assert best.score == pytest.approx(sigmoid(0.3 * logit), abs=1e-4)


def test_eight_threads_get_what_one_gets(tiny_encoder):
    options = ReadingOptions(**SMALL)
    jobs = {
        "queries": lambda: tiny_encoder.encode_queries(TEXTS, max_length=16),
        "passages": lambda: tiny_encoder.encode_passages(TEXTS, max_length=200, batch_size=3),
        "one": lambda: tiny_encoder.encode_queries(TEXTS[:1]),
        "read": lambda: tiny_encoder.read(["Who flew?"] * len(PASSAGES), PASSAGES, options),
        "other": lambda: tiny_encoder.read(["Where?"], TEXTS[2:3], options),
    }
    expected = {name: job() for name, job in jobs.items()}
    names = list(jobs) * 8
    random.Random(1).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        for name, got in zip(names, pool.map(lambda name: jobs[name](), names), strict=True):
            if name in ("read", "other"):
                for one, other in zip(got, expected[name], strict=True):
                    assert_same_answers(one, other)
            else:
                np.testing.assert_allclose(got, expected[name], atol=1e-5)


def test_an_error_of_the_engine_reaches_the_caller(fake_encoder):
    def fail(tokens):
        raise MemoryError("no room")

    encoder = fake_encoder(fail)
    for work in (lambda: encoder.encode_queries(["a"]), lambda: encoder.read(["a"], ["b"])):
        with pytest.raises(MemoryError, match="no room"):
            work()


def test_a_single_text_is_refused_where_a_list_is_due(tiny_encoder):
    with pytest.raises(TypeError, match="found a single str"):
        tiny_encoder.encode_queries("Who?")
