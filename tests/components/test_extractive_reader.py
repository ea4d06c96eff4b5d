from __future__ import annotations

import copy
import json
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from haystack import Document, ExtractedAnswer, Pipeline
from haystack.utils import ComponentDevice

from rom_haystack.components import ROMExtractiveReader
from rom_haystack.inference import Answer
from rom_haystack.inference.reading import sigmoid
from rom_haystack.inference.scores import ScoreCalibration
from rom_haystack.inference.stopping import StoppingRule

CPU = ComponentDevice.from_str("cpu")
QUERY = "Who found radium?"
STOPPING = {"passage_score_weight": 0.5, "settings": {}}


class FakeEncoder:
    """Answers with given (start, end, logit) per passage and remembers the options."""

    def __init__(self, spans):
        self.spans = spans
        self.options = None
        self.pairs = []

    def read(self, queries, passages, options):
        self.options = options
        self.pairs += zip(queries, passages, strict=True)
        return [
            [
                Answer(start, end, passage[start:end], logit, sigmoid(options.calibration_factor * logit))
                for start, end, logit in self.spans.get(passage, [])
            ]
            for passage in passages
        ]


@pytest.fixture
def fake(reader):
    """The reader over two passages with known answers, whose scores are the sigmoids of the log-odds as they are."""
    reader.calibration_factor = 1.0
    reader._encoder = FakeEncoder(
        {
            "Radium glows.": [(0, 6, 2.0), (7, 12, -1.0)],
            "Marie Curie found it.": [(0, 11, 3.0), (12, 17, 0.5)],
        }
    )
    return reader


PASSAGES = [Document(content="Radium glows."), Document(content="Marie Curie found it.")]


def data(result):
    return [answer.data for answer in result["answers"]]


class TestRanking:
    def test_answers_of_all_documents_and_the_no_answer_in_one_order(self, fake):
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["Marie Curie", "Radium", "found", "glows", None]
        assert [a.score for a in answers] == pytest.approx([sigmoid(s) for s in (3.0, 2.0, 0.5, -1.0, -3.0)])
        nothing = answers[-1]
        assert nothing.score == pytest.approx(1 - answers[0].score)
        assert (nothing.document, nothing.context, nothing.document_offset) == (None, None, None)
        assert all(a.query == QUERY for a in answers)

    def test_the_no_answer_comes_first_where_null_beats_every_span(self, fake):
        fake._encoder.spans = {"Radium glows.": [(0, 6, -0.5)]}
        assert data(fake.run(QUERY, PASSAGES)) == [None, "Radium"]

    @pytest.mark.parametrize("top_k", range(7))
    def test_never_more_than_top_k(self, fake, top_k):
        expected = ["Marie Curie", "Radium", "found", "glows", None][:top_k]
        assert data(fake.run(QUERY, PASSAGES, top_k=top_k)) == expected

    def test_without_no_answer(self, fake):
        assert None not in data(fake.run(QUERY, PASSAGES, no_answer=False))
        fake.no_answer = False
        assert None not in data(fake.run(QUERY, PASSAGES))
        assert None in data(fake.run(QUERY, PASSAGES, no_answer=True))

    def test_the_threshold_holds_for_all(self, fake):
        fake.score_threshold = 0.6
        assert data(fake.run(QUERY, PASSAGES)) == ["Marie Curie", "Radium", "found"]
        assert len(fake.run(QUERY, PASSAGES, score_threshold=0.0)["answers"]) == 5  # 0.0 is a value, not "not given"
        assert fake.run(QUERY, PASSAGES, score_threshold=0.99) == {"answers": []}

    def test_order_survives_saturated_scores(self, fake):
        fake._encoder.spans = {"Radium glows.": [(0, 6, 800.0), (7, 12, 900.0)]}
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["glows", "Radium", None]
        assert [a.score for a in answers] == [1.0, 1.0, 0.0]

    def test_calibration_scales_the_log_odds(self, tiny_checkpoint, fake):
        fake.calibration_factor = 0.5
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert answers[0].score == pytest.approx(sigmoid(1.5))
        assert answers[-1].score == pytest.approx(sigmoid(-1.5))

    def test_each_readable_document_is_read_once(self, fake):
        answers = fake.run(QUERY, [*PASSAGES, copy.deepcopy(PASSAGES[0])])
        assert data(answers).count("Radium") == 1
        assert [text for _, text in fake._encoder.pairs] == [document.content for document in PASSAGES]


class TestMeasuredScoring:
    """With `calibration_factor=None`, what was measured for the checkpoint."""

    @pytest.fixture
    def measured(self, fake):
        def make(**values):
            fake.calibration_factor = None
            fake._encoder.scores = ScoreCalibration(**{"calibration_factor": 0.5, "no_answer_logit": 0.0, **values})
            return fake

        return make

    def test_the_factor(self, measured):
        answers = measured().run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}) == ["Marie Curie", "Radium", "found", "glows", None]
        assert [a.score for a in answers] == pytest.approx([sigmoid(s / 2) for s in (3.0, 2.0, 0.5, -1.0, -3.0)])

    @pytest.mark.parametrize(("threshold", "place"), [(-9.0, 4), (0.0, 4), (2.6, 1), (3.0, 1), (3.1, 0), (9.0, 0)])
    def test_the_no_answer_comes_first_below_the_threshold(self, measured, threshold, place):
        answers = measured(no_answer_logit=threshold).run(QUERY, PASSAGES)["answers"]
        assert data({"answers": answers}).index(None) == place
        assert answers[place].score == pytest.approx(sigmoid((threshold - 3.0) / 2))

    @pytest.mark.parametrize("threshold", [-9.0, -1.0, 0.0, 2.5, 3.0, 9.0])
    def test_answers_and_the_no_answer_are_in_the_order_of_their_scores(self, measured, threshold):
        reader = measured(no_answer_logit=threshold)
        scores = [answer.score for answer in reader.run(QUERY, PASSAGES)["answers"]]
        assert scores == sorted(scores, reverse=True)
        quotes = reader.run(QUERY, PASSAGES, no_answer=False)["answers"]
        assert [a.score for a in quotes] == pytest.approx([sigmoid((s - threshold) / 2) for s in (3.0, 2.0, 0.5, -1.0)])

    def test_without_measurements_it_is_the_default(self, fake):
        fake.calibration_factor, fake._encoder.scores = None, None
        answers = fake.run(QUERY, PASSAGES)["answers"]
        assert [a.score for a in answers][::4] == pytest.approx([sigmoid(0.45), sigmoid(-0.45)])

    def test_holds_for_one_weight(self, measured):
        reader = measured(passage_score_weight=0.25)
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.5, but .* measured with 0\.25"):
            reader.run(QUERY, PASSAGES)
        reader.calibration_factor = 1.0
        assert reader.run(QUERY, PASSAGES)["answers"][0].score == pytest.approx(sigmoid(3.0))

    def test_is_read_with_the_checkpoint(self, tiny_checkpoint, documents, tmp_path):
        folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
        scores = {"calibration_factor": 0.5, "no_answer_logit": 1e6, "passage_score_weight": 0.5, "measured": {}}
        (folder / "calibration.json").write_text(json.dumps({"scores": scores, "stopping": STOPPING}))
        given = ROMExtractiveReader(folder, CPU, calibration_factor=0.5).run(QUERY, documents)["answers"]
        reader = ROMExtractiveReader(folder, CPU, calibration_factor=None)
        found = reader.run(QUERY, documents)["answers"]
        assert (found[0].data, found[0].score) == (None, 1.0)
        quotes = [(a.data, a.document_offset) for a in found if a.data]
        assert quotes == [(a.data, a.document_offset) for a in given if a.data]
        again = ROMExtractiveReader.from_dict(reader.to_dict())
        assert again.calibration_factor is None


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


class TestReadingInTurn:
    def test_answers_so_far_after_each_group(self, reader, documents):
        turns = list(reader.run_in_turn(QUERY, documents, top_k=1000, group_size=1))
        assert [turn["read"] for turn in turns] == [1, 2, 3]
        for turn in turns:
            expected = reader.run(QUERY, documents[: turn["read"]], top_k=1000)["answers"]
            assert scores(turn["answers"]) == pytest.approx(scores(expected), abs=1e-5)

    def test_nothing_is_read_before_it_is_asked_for(self, reader, documents, fake_encoder):
        reader._encoder = fake_encoder()
        turns = reader.run_in_turn(QUERY, documents)
        assert reader._encoder.backend.calls == []
        assert next(turns)["read"] == 2
        assert len(reader._encoder.backend.calls) == 1

    def test_options_are_those_of_run(self, reader, documents):
        options = {"top_k": 3, "score_threshold": 0.01, "no_answer": False, "answers_per_seq": 2}
        *_, last = reader.run_in_turn(QUERY, documents, **options)
        expected = reader.run(QUERY, documents, **options)["answers"]
        assert 0 < len(expected) <= 3
        assert scores(last["answers"]) == pytest.approx(scores(expected), abs=1e-5)

    def test_blank_and_repeated_documents_do_not_count(self, reader, documents):
        *_, last = reader.run_in_turn(QUERY, [Document(content=" "), *documents, *documents])
        assert last["read"] == 3

    def test_nothing_to_read_or_to_answer(self, reader, documents):
        assert [turn["read"] for turn in reader.run_in_turn(QUERY, [])] == [0]
        assert [[a.data for a in turn["answers"]] for turn in reader.run_in_turn(QUERY, [])] == [[None]]
        assert list(reader.run_in_turn(QUERY, documents, top_k=0)) == [{"answers": [], "read": 0}]

    def test_mistakes_are_told_at_once(self, reader, documents):
        with pytest.raises(ValueError, match="query is empty"):
            reader.run_in_turn(" ", documents)
        with pytest.raises(ValueError, match="group_size is 0; it must be at least 1"):
            reader.run_in_turn(QUERY, documents, group_size=0)
        with pytest.raises(ValueError, match="top_k is -1"):
            reader.run_in_turn(QUERY, documents, top_k=-1)
        reader.adaptive_reading = "fast"
        with pytest.raises(ValueError, match=r"adaptive_reading is 'fast'.*python -m training calibrate"):
            reader.run_in_turn(QUERY, documents)


def scores(answers):
    return {
        (a.document and a.document.id, a.data, a.document_offset and a.document_offset.start): a.score for a in answers
    }


class TestAdaptiveReading:
    @pytest.fixture
    def adaptive(self, fresh_checkpoint):
        def make(**options):
            reader = ROMExtractiveReader(model=fresh_checkpoint, device=CPU, overlap_threshold=None, **options)
            reader.warm_up()
            reader._encoder.stopping["cautious"] = StoppingRule(1e9, 0.0)  # never stops
            reader._encoder.stopping["fast"] = StoppingRule(-1e9, 0.0)  # stops at once
            readers.append(reader)
            return reader

        readers = []
        yield make
        for reader in readers:
            reader.close()

    @staticmethod
    def read(answers):
        return {answer.document.id for answer in answers if answer.document}

    def test_off_reads_every_document_in_one_stream(self, adaptive, documents):
        answers = adaptive().run(QUERY, documents, top_k=1000)["answers"]
        assert self.read(answers) == {document.id for document in documents}

    def test_reads_in_the_order_given_until_settled(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        for group in (documents, documents[::-1]):
            answers = reader.run(QUERY, group, top_k=1000)["answers"]
            assert self.read(answers) == {document.id for document in group[:2]}
            alone = reader.run(QUERY, group[:2], top_k=1000)["answers"]
            assert [(a.data, a.score) for a in answers] == [(a.data, a.score) for a in alone]

    def test_in_turn_it_stops_as_at_once(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        (turn,) = reader.run_in_turn(QUERY, documents, top_k=1000)
        assert turn["read"] == 2
        assert scores(turn["answers"]) == pytest.approx(scores(reader.run(QUERY, documents, top_k=1000)["answers"]))

    def test_what_is_never_settled_is_read_whole(self, adaptive, documents):
        found, expected = (
            {
                (a.document and a.document.id, a.data, a.context): a.score
                for a in reader.run(QUERY, documents)["answers"]
            }
            for reader in (adaptive(adaptive_reading="cautious"), adaptive())
        )
        assert found == pytest.approx(expected, abs=1e-5)

    def test_each_query_of_a_batch_by_itself(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast")
        first, nothing, second = reader.run_batch(
            [QUERY, "What?", "Where?"], [documents, [], documents[::-1]], top_k=1000
        )["answers"]
        assert self.read(first) == {document.id for document in documents[:2]}
        assert self.read(second) == {document.id for document in documents[1:]}
        assert [a.data for a in nothing] == [None]

    def test_blank_documents_do_not_count(self, adaptive, documents):
        group = [Document(content=" "), *documents]
        answers = adaptive(adaptive_reading="fast").run(QUERY, group, top_k=1000)["answers"]
        assert self.read(answers) == {document.id for document in documents[:2]}

    def test_a_checkpoint_without_measurements(self, reader, documents):
        reader.adaptive_reading = "fast"
        with pytest.raises(ValueError, match=r"adaptive_reading is 'fast'.*python -m training calibrate"):
            reader.run(QUERY, documents)

    def test_another_weight_than_was_measured_with(self, adaptive, documents):
        reader = adaptive(adaptive_reading="fast", passage_score_weight=0.25)
        with pytest.raises(ValueError, match=r"passage_score_weight is 0\.25"):
            reader.run(QUERY, documents)

    def test_round_trip(self, tiny_checkpoint):
        reader = ROMExtractiveReader(model=tiny_checkpoint, adaptive_reading="cautious")
        data = reader.to_dict()
        assert data["init_parameters"]["adaptive_reading"] == "cautious"
        assert ROMExtractiveReader.from_dict(data).adaptive_reading == "cautious"


class TestInputs:
    def test_documents_without_text_are_skipped_with_one_warning(self, reader, documents, caplog):
        blank = [
            Document(content=None, id="none"),
            Document(content="", id="empty"),
            Document(content=" \n", id="space"),
        ]
        with_blank = reader.run(QUERY, [*blank, *documents])
        assert with_blank == reader.run(QUERY, documents)
        (record,) = caplog.records
        assert all(name in record.getMessage() for name in ("none", "empty", "space"))

    @pytest.mark.parametrize("group", [[], [Document(content=None)]])
    def test_nothing_readable(self, reader, group):
        assert reader.run(QUERY, group) == {"answers": [ExtractedAnswer(query=QUERY, score=1.0)]}
        assert reader.run(QUERY, group, no_answer=False) == {"answers": []}
        assert reader.run(QUERY, group, top_k=0) == {"answers": []}
        assert reader._encoder is None  # nothing to read, nothing loaded

    def test_inputs_stay_as_they_are(self, reader, documents):
        with_embeddings = [replace(document, embedding=[0.5] * 4) for document in documents]
        before = copy.deepcopy(with_embeddings)
        answers = reader.run(QUERY, with_embeddings)["answers"]
        assert with_embeddings == before
        assert all(a.document.embedding is None for a in answers if a.document)
        assert {a.document.id for a in answers if a.document} <= {d.id for d in documents}

    @pytest.mark.parametrize(
        "content",
        [
            "\x00\x01\x02 control \x7f characters",
            "👩‍🔬 found ☢️ in 1898 👩🏽‍🚀",
            "e\u0301le\u0300ve a\u0308 n\u0303 ẹ̀ text",
            "مدينة القاهرة هي عاصمة مصر",
            "\u200f\u202eשלום עולם\u202c",
            "word " * 3000,
            "x" * 5000,
        ],
    )
    def test_odd_texts_keep_the_offset_law(self, reader, content):
        for answer in reader.run("q " * 300, [Document(content=content)])["answers"]:
            check_offsets(answer)


def check_offsets(answer):
    if answer.data is None:
        return
    start, end = answer.document_offset.start, answer.document_offset.end
    assert answer.document.content[start:end] == answer.data
    assert answer.context[answer.context_offset.start : answer.context_offset.end] == answer.data
    assert answer.context in answer.document.content


class TestAnswers:
    @pytest.mark.parametrize("size", [None, 1, 40, 10_000])
    def test_offsets_in_document_and_context(self, reader, documents, size):
        reader.context_window_size = size
        reader.overlap_threshold = None
        answers = reader.run(QUERY, documents)["answers"]
        assert len(answers) == 20
        for answer in answers:
            check_offsets(answer)
            assert type(answer.score) is float
            assert 0.0 <= answer.score <= 1.0
            if answer.data and size is not None:
                assert len(answer.context) <= max(size, len(answer.data))

    def test_the_context_is_the_sentence(self, fake):
        passage = "It was late. Marie Curie found radium. She won."
        fake._encoder.spans = {passage: [(13, 24, 1.0)]}
        answer = fake.run("Who found radium?", [Document(content=passage)])["answers"][0]
        assert (answer.data, answer.context) == ("Marie Curie", "Marie Curie found radium.")
        assert answer.context_offset == ExtractedAnswer.Span(0, 11)

    def test_page_numbers_count_form_feeds(self, fake, caplog):
        passage = "one\ftwo\fthree"
        fake._encoder.spans = {passage: [(0, 3, 3.0), (4, 7, 2.0), (8, 13, 1.0)]}
        answers = fake.run("q", [Document(content=passage, meta={"page_number": 5})], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{"answer_page_number": n} for n in (5, 6, 7)]
        answers = fake.run("q", [Document(content=passage)], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{}, {}, {}]
        answers = fake.run("q", [Document(content=passage, meta={"page_number": "5"})], no_answer=False)["answers"]
        assert [a.meta for a in answers] == [{}, {}, {}]
        assert "no int" in caplog.text

    def test_answers_serialize(self, reader, documents):
        for answer in reader.run(QUERY, documents)["answers"]:
            assert ExtractedAnswer.from_dict(answer.to_dict()) == answer


class TestModel:
    def test_segments_reach_the_model(self, reader, documents):
        reader.warm_up()
        seen = []
        hook = reader._encoder.backend.model.encoder.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
        )
        try:
            reader.run(QUERY, documents)
        finally:
            hook.remove()
        for inputs in seen:
            segments = inputs["token_type_ids"][inputs["attention_mask"] == 1]
            assert set(segments.tolist()) == {0, 1}
        assert seen

    def test_answers_are_no_longer_than_asked(self, reader, documents, tiny_tokenizer):
        reader.max_answer_length = 3
        reader.overlap_threshold = None
        found = [a.data for a in reader.run(QUERY, documents)["answers"] if a.data]
        assert found
        assert max(len(tiny_tokenizer.tokenize(answer)) for answer in found) == 3

    def test_the_null_position_decides_on_no_answer(self, reader, documents, monkeypatch):
        reader.warm_up()
        backend = reader._encoder.backend
        run = backend.run

        def favour_null(inputs, head, **options):
            outputs = run(inputs, head, **options)
            for output in outputs:
                output["start_logits"][0] += 100
                output["end_logits"][0] += 100
            return outputs

        monkeypatch.setattr(backend, "run", favour_null)
        reader.calibration_factor = 1.0
        answers = reader.run(QUERY, documents)["answers"]
        assert answers[0].data is None
        assert answers[0].score == pytest.approx(1.0, abs=1e-6)
        assert all(a.score < 1e-6 for a in answers[1:])

    def test_a_score_does_not_depend_on_the_other_documents(self, reader, documents):
        def scores(group):
            answers = reader.run(QUERY, group, top_k=100)["answers"]
            return {
                a.document_offset.start: a.score for a in answers if a.document and a.document.id == documents[0].id
            }

        together, alone = scores(documents), scores(documents[:1])
        assert together == pytest.approx(alone, abs=1e-5)
        assert alone

    def test_memory_does_not_grow_with_the_square_of_the_window(self, reader):
        long = Document(content="The river Nile flows north to its delta. " * 800)
        reader.run(QUERY, PASSAGES)
        tracemalloc.start()
        try:
            reader.run(QUERY, [long])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        windows = 800 * 10 // 256
        assert peak < windows * 384 * 384 * 4  # what one L×L matrix per window would take

    async def test_run_async_equals_run(self, reader, documents):
        assert await reader.run_async(QUERY, documents, top_k=4) == reader.run(QUERY, documents, top_k=4)

    def test_run_batch_equals_single_runs(self, reader, documents):
        queries, groups = [QUERY, "Where is the delta?", "What?"], [documents, documents[1:], []]
        batch = reader.run_batch(queries, groups, top_k=3)["answers"]
        single = [reader.run(q, g, top_k=3)["answers"] for q, g in zip(queries, groups, strict=True)]
        for one, other in zip(batch, single, strict=True):
            assert [(a.data, a.query) for a in one] == [(a.data, a.query) for a in other]
            assert [a.score for a in one] == pytest.approx([a.score for a in other], abs=1e-5)

    def test_run_batch_reads_all_pairs_in_one_stream(self, fake, monkeypatch):
        calls = []
        read = fake._encoder.read
        monkeypatch.setattr(fake._encoder, "read", lambda *args: calls.append(len(args[0])) or read(*args))
        fake.run_batch(["a", "b"], [PASSAGES, PASSAGES[:1]])
        assert calls == [3]
        with pytest.raises(ValueError, match="2 queries for 1 lists"):
            fake.run_batch(["a", "b"], [PASSAGES])

    def test_eight_threads_agree(self, fresh_checkpoint, documents):
        reader = ROMExtractiveReader(model=fresh_checkpoint, device=CPU)
        queries = [f"What of {word}?" for word in ("radium", "Everest", "the Nile", "Egypt")]

        def scores(query):
            answers = reader.run(query, documents)["answers"]
            return {(a.query, a.data, a.document and a.document.id): a.score for a in answers}

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(scores, queries * 4))
        for query, got in zip(queries * 4, found, strict=True):
            assert got == pytest.approx(scores(query), abs=1e-5)
        reader.close()

    async def test_in_a_pipeline_sync_and_async(self, reader, documents):
        pipeline = Pipeline()
        pipeline.add_component("reader", reader)
        inputs = {"reader": {"query": QUERY, "documents": documents, "top_k": 2}}
        found = pipeline.run(inputs)["reader"]["answers"]
        assert len(found) == 2
        assert (await pipeline.run_async(inputs))["reader"]["answers"] == found
