from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from haystack import Document, Pipeline, tracing
from haystack.tracing.tracer import NullTracer
from haystack.utils import ComponentDevice, Secret

from rom_haystack.components import ROMRanker
from rom_haystack.inference import ReadingOptions
from rom_haystack.inference.reading import sigmoid

CPU = ComponentDevice.from_str("cpu")
QUERY = "Who found radium?"


class FakeEncoder:
    """Gives known log-odds per passage and remembers what it was asked."""

    def __init__(self, log_odds):
        self.log_odds = log_odds
        self.pairs = []
        self.options = None

    def relevance(self, queries, passages, options):
        self.options = options
        self.pairs += zip(queries, passages, strict=True)
        return [self.log_odds.get(passage, 0.0) for passage in passages]


LOW, HIGH, MIDDLE = (Document(content=name) for name in ("low", "high", "middle"))


@pytest.fixture
def fake(ranker):
    ranker._encoder = FakeEncoder({"low": -3.0, "middle": 0.5, "high": 2.0})
    return ranker


@pytest.fixture
def make(tiny_checkpoint):
    made = []

    def build(**options):
        made.append(ROMRanker(model=str(tiny_checkpoint), device=CPU, **options))
        return made[-1]

    yield build
    for ranker in made:
        ranker.close()


def contents(result):
    return [document.content for document in result["documents"]]


def scores(result):
    return [document.score for document in result["documents"]]


class TestRanking:
    def test_best_first_with_probabilities_in_python_floats(self, fake):
        result = fake.run(QUERY, [LOW, HIGH, MIDDLE])
        assert contents(result) == ["high", "middle", "low"]
        assert scores(result) == [sigmoid(2.0), sigmoid(0.5), sigmoid(-3.0)]
        assert all(type(score) is float for score in scores(result))

    def test_unscaled_scores_are_log_odds(self, fake):
        assert scores(fake.run(QUERY, [LOW, HIGH], scale_score=False)) == [2.0, -3.0]
        fake.scale_score = False
        assert scores(fake.run(QUERY, [LOW, HIGH])) == [2.0, -3.0]
        assert scores(fake.run(QUERY, [HIGH], scale_score=True)) == [sigmoid(2.0)]

    def test_calibration_scales_the_log_odds(self, fake):
        assert scores(fake.run(QUERY, [HIGH], calibration_factor=0.5)) == [sigmoid(1.0)]
        fake.calibration_factor = 0.25
        assert scores(fake.run(QUERY, [HIGH])) == [sigmoid(0.5)]
        assert scores(fake.run(QUERY, [HIGH], scale_score=False)) == [2.0]

    @pytest.mark.parametrize("top_k", range(5))
    def test_never_more_than_top_k(self, fake, top_k):
        expected = ["high", "middle", "low"][:top_k]
        assert contents(fake.run(QUERY, [LOW, HIGH, MIDDLE], top_k=top_k)) == expected
        fake.top_k = top_k
        assert contents(fake.run(QUERY, [LOW, HIGH, MIDDLE])) == expected

    def test_top_k_of_0_reads_nothing(self, fake):
        assert fake.run(QUERY, [HIGH], top_k=0) == {"documents": []}
        assert fake._encoder.pairs == []

    def test_the_threshold_holds_for_the_score_that_is_given(self, fake):
        documents = [LOW, HIGH, MIDDLE]
        fake.score_threshold = 0.6
        assert contents(fake.run(QUERY, documents)) == ["high", "middle"]
        assert len(fake.run(QUERY, documents, score_threshold=0.0)["documents"]) == 3  # 0.0 is a value
        assert contents(fake.run(QUERY, documents, scale_score=False)) == ["high"]
        assert contents(fake.run(QUERY, documents, score_threshold=sigmoid(0.5))) == ["high", "middle"]  # at least

    def test_order_survives_saturated_scores_and_equals_stay_in_order(self, fake):
        fake._encoder.log_odds = {"low": 800.0, "high": 900.0}
        result = fake.run(QUERY, [LOW, HIGH])
        assert (contents(result), scores(result)) == (["high", "low"], [1.0, 1.0])
        fake._encoder.log_odds = {}
        assert contents(fake.run(QUERY, [MIDDLE, HIGH, LOW])) == ["middle", "high", "low"]

    def test_of_one_id_the_best_retrieved_is_judged_once(self, fake):
        documents = [
            Document(id="a", content="low"),
            Document(id="b", content="middle"),
            Document(id="a", content="high", score=0.1),
            Document(id="a", content="low", score=0.0),
            Document(id="a", content="", score=0.9),
        ]
        assert contents(fake.run(QUERY, documents)) == ["high", "middle"]
        assert [text for _, text in fake._encoder.pairs] == ["high", "middle"]

    def test_documents_without_text_are_skipped_and_named(self, fake, caplog):
        empty = [Document(id=f"empty {n}", content=text) for n, text in enumerate([None, "", " \n\t"])]
        assert contents(fake.run(QUERY, [empty[0], LOW, *empty[1:], HIGH])) == ["high", "low"]
        assert "3 documents without text are skipped: empty 0, empty 1, empty 2" in caplog.text
        assert fake.run(QUERY, empty) == {"documents": []}

    def test_no_documents(self, tiny_checkpoint):
        ranker = ROMRanker(model=str(tiny_checkpoint), device=CPU)
        assert ranker.run(QUERY, []) == {"documents": []}
        assert ranker._encoder is None  # nothing to read, nothing loaded

    def test_documents_keep_everything_but_their_score(self, fake):
        document = Document(id="a", content="high", meta={"page": 3}, embedding=[1.0, 2.0], score=0.25)
        before = copy.deepcopy(document)
        given = [document, LOW]
        (found, _) = fake.run(QUERY, given)["documents"]
        assert (given, document) == ([document, LOW], before)
        assert found is not document
        assert found == replace(before, score=sigmoid(2.0))


class TestText:
    def test_prefixes_and_suffixes(self, fake):
        fake.query_prefix, fake.query_suffix, fake.document_prefix, fake.document_suffix = "q: ", " ?", "d: ", " ."
        fake.run(QUERY, [HIGH])
        assert fake._encoder.pairs == [(f"q: {QUERY} ?", "d: high .")]

    def test_meta_comes_before_the_content(self, fake):
        fake.meta_fields_to_embed = ["title", "year", "none", "missing"]
        document = Document(content="It glows.", meta={"title": "Radium", "year": 0, "none": None, "other": "x"})
        fake.run(QUERY, [document, Document(content="text", meta={"title": " "})])
        fake.embedding_separator = " | "
        fake.run(QUERY, [document])
        assert [text for _, text in fake._encoder.pairs] == [
            "Radium\n0\nIt glows.",
            "text",
            "Radium | 0 | It glows.",
        ]

    def test_a_document_with_meta_alone_is_judged_by_it(self, fake):
        fake.meta_fields_to_embed = ["title"]
        assert len(fake.run(QUERY, [Document(content=None, meta={"title": "high"})])["documents"]) == 1
        assert fake._encoder.pairs == [(QUERY, "high")]

    def test_a_prefix_makes_no_text(self, fake):
        fake.document_prefix = "passage: "
        assert fake.run(QUERY, [Document(content="")]) == {"documents": []}


class TestEquivalence:
    def test_scores_are_the_encoders_relevance(self, ranker, tiny_encoder, documents):
        found = {d.id: d.score for d in ranker.run(QUERY, documents, scale_score=False)["documents"]}
        expected = tiny_encoder.relevance([QUERY] * 3, [document.content for document in documents])
        assert [found[document.id] for document in documents] == pytest.approx(expected, abs=1e-5)
        assert len(set(expected)) == 3

    def test_batched_equals_single(self, ranker, documents):
        queries = [QUERY, "Where is the delta?", "é\u0301 👩‍🔬 שלום"]
        groups = [documents, documents[1:], []]
        batch = ranker.run_batch(queries, groups)["documents"]
        for query, group, found in zip(queries, groups, batch, strict=True):
            alone = ranker.run(query, group)["documents"]
            assert [d.id for d in found] == [d.id for d in alone]
            assert [d.score for d in found] == pytest.approx([d.score for d in alone], abs=1e-6)
        assert ranker.run_batch([], []) == {"documents": []}

    def test_company_changes_no_score(self, ranker, documents):
        together = {d.id: d.score for d in ranker.run(QUERY, documents)["documents"]}
        for document in documents:
            assert ranker.run(QUERY, [document])["documents"][0].score == pytest.approx(together[document.id], abs=1e-6)

    def test_of_a_long_document_the_best_window_counts(self, make, tiny_encoder):
        ranker = make(max_seq_length=40, stride=8, max_query_length=12)
        long = Document(content=" ".join(f"River {n} flows through country {n * n}." for n in range(40)))
        options = ReadingOptions(max_seq_length=40, stride=8, max_query_length=12)
        expected = tiny_encoder.relevance([QUERY], [long.content], options)
        assert scores(ranker.run(QUERY, [long], scale_score=False)) == pytest.approx(expected, abs=1e-5)
        assert scores(make().run(QUERY, [long], scale_score=False)) != pytest.approx(expected, abs=1e-3)

    async def test_run_async_equals_run(self, ranker, documents):
        arguments = (QUERY, documents, 2, True, 0.5, 0.1)
        assert await ranker.run_async(*arguments) == ranker.run(*arguments)

    def test_threads_agree(self, fresh_checkpoint, documents):
        ranker = ROMRanker(model=str(fresh_checkpoint), device=CPU)
        queries = [f"question {n} about rivers" for n in range(8)]
        with ThreadPoolExecutor(8) as pool:  # the first call loads the model, in all threads at once
            found = list(pool.map(lambda query: ranker.run(query, documents)["documents"], queries))
        for query, ranked in zip(queries, found, strict=True):
            alone = ranker.run(query, documents)["documents"]
            assert [d.id for d in ranked] == [d.id for d in alone]
        ranker.close()

    def test_odd_and_huge_texts_have_finite_scores(self, ranker):
        texts = ["\ud800 lone", "\x00\x01", "word " * 5000, "👩‍🔬" * 50, "\u200b", "שלום"]
        documents = [Document(id=str(n), content=text) for n, text in enumerate(texts)]
        found = ranker.run(QUERY, documents, scale_score=False)
        assert len(found["documents"]) == len(texts)
        assert all(math.isfinite(score) for score in scores(found))


class TestParameters:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"top_k": -1}, "top_k is -1"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"calibration_factor": 0.0}, "calibration_factor is 0.0"),
            ({"calibration_factor": None}, "calibration_factor is None"),
            ({"max_query_length": 0}, "max_query_length is 0"),
            ({"max_seq_length": 60}, "max_seq_length is 60"),
            ({"stride": -1}, "stride is -1"),
            ({"backend": "jax"}, "choose auto, torch, onnx, openvino"),
            ({"trust_remote_code": True}, "trust_remote_code"),
            ({"model_kwargs": {"use_safetensors": False}}, "safetensors"),
        ],
    )
    def test_bad_values_fail_at_construction(self, make, options, message):
        with pytest.raises(ValueError, match=message):
            make(**options)

    def test_without_scaling_no_factor_is_needed(self, make, documents):
        unscaled = make(scale_score=False, calibration_factor=None)
        assert len(unscaled.run(QUERY, documents)["documents"]) == 3
        with pytest.raises(ValueError, match="calibration_factor is None"):
            unscaled.run(QUERY, documents, scale_score=True)
        assert unscaled.run(QUERY, documents, scale_score=True, calibration_factor=1.0)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"query": " "}, ValueError, "empty"),
            ({"query": None}, TypeError, "NoneType"),
            ({"top_k": -2}, ValueError, "top_k is -2"),
            ({"calibration_factor": 0.0}, ValueError, "calibration_factor is 0.0"),
        ],
    )
    def test_bad_values_fail_at_the_run(self, fake, arguments, error, message):
        with pytest.raises(error, match=message):
            fake.run(**{"query": QUERY, "documents": [HIGH], **arguments})

    def test_batches_must_match(self, fake):
        with pytest.raises(ValueError, match="2 queries for 1 lists"):
            fake.run_batch([QUERY, QUERY], [[HIGH]])
        with pytest.raises(TypeError, match="Wrap it"):
            fake.run_batch(QUERY, [[HIGH]])

    def test_lengths_and_batch_size_reach_the_encoder(self, fake):
        fake.batch_size, fake.max_seq_length, fake.stride, fake.max_query_length = 3, 200, 20, 30
        fake.run(QUERY, [HIGH])
        assert fake._encoder.options == ReadingOptions(
            max_batch_size=3, max_seq_length=200, stride=20, max_query_length=30
        )

    def test_one_warning_names_what_has_no_effect(self, make, caplog):
        make(config_kwargs={"a": 1}, tokenizer_kwargs={"model_max_length": 512})
        assert len(caplog.records) == 1
        assert "ROMRanker has no use for config_kwargs={'a': 1}, " in caplog.text
        assert "tokenizer_kwargs['model_max_length']=512" in caplog.text

    def test_nothing_to_warn_of_by_default(self, make, caplog):
        make(config_kwargs={}, tokenizer_kwargs={})
        assert not caplog.records

    def test_round_trip(self, tiny_checkpoint):
        ranker = ROMRanker(
            tiny_checkpoint,
            token=Secret.from_env_var("MY_TOKEN"),
            top_k=3,
            query_prefix="q",
            query_suffix="r",
            document_prefix="d",
            document_suffix="e",
            meta_fields_to_embed=["title"],
            embedding_separator="|",
            scale_score=False,
            calibration_factor=0.5,
            score_threshold=0.1,
            model_kwargs={"dtype": torch.bfloat16},
            tokenizer_kwargs={"use_fast": True},
            batch_size=4,
            backend="torch",
            revision="main",
            local_files_only=True,
            max_seq_length=128,
            stride=16,
            max_query_length=32,
        )
        data = ranker.to_dict()
        before = copy.deepcopy(data)
        assert data["init_parameters"]["model_kwargs"] == {"dtype": "torch.bfloat16"}
        loaded = ROMRanker.from_dict(data)
        assert data == before
        assert loaded.to_dict() == data
        assert vars(loaded)["embedding_separator"] == "|"

    def test_light_init_and_the_requested_device_in_to_dict(self, fresh_checkpoint, documents):
        ranker = ROMRanker(model=str(fresh_checkpoint))
        assert ranker._encoder is None
        ranker.run(QUERY, documents)
        assert ranker.to_dict()["init_parameters"]["device"] is None
        ranker.close()

    def test_copies_start_cold(self, ranker, documents):
        expected = ranker.run(QUERY, documents)
        twin = copy.deepcopy(ranker)
        assert twin._encoder is None
        assert twin.run(QUERY, documents) == expected
        twin.close()


def test_a_span_stands_around_the_work(ranker, documents):
    spans = []

    class Recorder(NullTracer):
        def trace(self, operation_name, tags=None, parent_span=None):
            spans.append((operation_name, tags))
            return super().trace(operation_name, tags, parent_span)

    tracing.enable_tracing(Recorder())
    try:
        ranker.run(QUERY, documents)
    finally:
        tracing.disable_tracing()
    assert [(name, tags["rom_haystack.pairs"]) for name, tags in spans] == [("rom_haystack.rank", 3)]


def test_between_retriever_and_reader(ranker, reader, documents):
    ranker.top_k = 2
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    pipeline.add_component("reader", reader)
    pipeline.connect("ranker.documents", "reader.documents")
    result = pipeline.run({"ranker": {"query": QUERY, "documents": documents}, "reader": {"query": QUERY}})
    read = {answer.document.id for answer in result["reader"]["answers"] if answer.document}
    assert read == {document.id for document in ranker.run(QUERY, documents)["documents"]}


@pytest.mark.integration
@pytest.mark.usefixtures("no_hub")
def test_the_bundled_checkpoint_puts_the_answer_first():
    related = [
        "The Moon has a diameter of 3,474 kilometres, roughly one quarter that of the Earth.",
        "Apollo 11 was the first mission that landed people on the Moon, in July 1969.",
        "Honey bees communicate the direction of flowers by a waggle dance.",
    ]
    answering = "Michael Collins remained in lunar orbit aboard the command module Columbia during Apollo 11."
    hidden = " ".join([*related * 12, answering, *related * 12])  # several windows long
    documents = [Document(content=text) for text in [*related, answering, hidden]]
    ranker = ROMRanker()
    ranked = ranker.run("Who stayed in lunar orbit during Apollo 11?", documents)["documents"]
    ranker.close()
    assert {ranked[0].content, ranked[1].content} == {answering, hidden}
    assert ranked[1].score > 0.9 > ranked[2].score
