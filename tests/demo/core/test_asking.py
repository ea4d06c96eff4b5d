"""Questions asked step by step, beside the pipeline that does the same at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from demo.core.asking import Asker, AskingError
from demo.core.collection import Collection
from demo.core.engine import Engine
from demo.core.results import Settings
from rom_haystack import ROMExtractiveQA
from rom_haystack.answers import quotes
from rom_haystack.inference.stopping import CALIBRATION_FILE
from rom_haystack.modeling import DEFAULT_CHECKPOINT
from rom_haystack.searches import retrievers_of

SAMPLE = Path(__file__).parents[3] / "rom_haystack" / "sample_corpus"
BUNDLED = Path(__file__).parents[3] / "rom_haystack" / "checkpoints" / DEFAULT_CHECKPOINT
QUESTION = "Which Apollo 11 astronaut stayed in lunar orbit?"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> str:
    """The tiny model with the bundled one's calibration."""
    folder = tmp_path_factory.mktemp("checkpoints") / "calibrated"
    shutil.copytree(tiny_checkpoint, folder)
    shutil.copy(BUNDLED / CALIBRATION_FILE, folder)
    return str(folder)


@pytest.fixture(scope="module")
def settings(checkpoint: str) -> Settings:
    return Settings(model=checkpoint, reader=checkpoint)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, checkpoint: str) -> Collection:
    documents = tmp_path_factory.mktemp("documents")
    for name in ("the-moon", "mars", "marie-curie", "the-nile"):
        for path in SAMPLE.glob(f"{name}*"):
            shutil.copy(path, documents)
    made = Collection("some", "Some", "linked", documents, tmp_path_factory.mktemp("home"))
    made.reindex(model=checkpoint)
    return made


@pytest.fixture(scope="module")
def asker(collection: Collection, engine: Engine) -> Asker:
    return Asker(collection, engine)


def pipeline(asker: Asker, settings: Settings) -> ROMExtractiveQA:
    return ROMExtractiveQA(
        asker.collection.library(settings.model).store,
        model=settings.model,
        top_k_retriever=settings.passages,
        top_k_reader=settings.top_k + 1,
        adaptive_reading=settings.reading,
        retrieval=settings.retrieval,
    )


def assert_same(result, expected, most):
    """Result and pipeline found the same passages and the same answers."""
    assert [p.document.id for p in result.passages] == [document.id for document in expected["documents"]]
    assert [p.score for p in result.passages] == pytest.approx([document.score for document in expected["documents"]])
    answers = expected["answers"]
    sure = quotes(answers, most)
    unsure = [] if sure else [answer for answer in answers if answer.data is not None][:most]
    for found, wanted in ((result.quotes, sure), (result.doubtful, unsure)):
        assert [(q.text, q.start, q.passage.document.id) for q in found] == [
            (a.data, a.document_offset.start, a.document.id) for a in wanted
        ]
        assert [q.score for q in found] == pytest.approx([a.score for a in wanted], abs=1e-5)
    for answer in answers:
        if answer.data is None:
            assert result.no_answer_score == pytest.approx(answer.score, abs=1e-5)


class TestAsking:
    @pytest.mark.parametrize("retrieval", ["hybrid", "dense", "keyword"])
    @pytest.mark.parametrize("reading", ["off", "cautious", "fast"])
    def test_finds_what_the_pipeline_finds(self, asker, settings, retrieval, reading):
        settings = replace(settings, retrieval=retrieval, reading=reading, passages=7, top_k=3)
        result = asker.answer(QUESTION, settings)
        expected = pipeline(asker, settings).run(query=QUESTION)
        assert len(result.passages) > 2
        assert result.quotes or result.doubtful
        assert_same(result, expected, settings.top_k)

    def test_tells_what_is_known_as_soon_as_it_is(self, asker, settings):
        results = list(asker.ask(QUESTION, settings))
        assert [result.read for result in results] == [0, 2, 4, 6, 8, 10, 10]
        assert [result.finished for result in results] == [False] * 6 + [True]
        assert results[0].quotes == results[0].doubtful == ()
        assert all(result.passages == results[0].passages for result in results)
        best = [max(q.score for q in (*r.quotes, *r.doubtful)) for r in results[1:]]
        assert best == sorted(best)
        assert all(r.no_answer_score == pytest.approx(1 - score) for r, score in zip(results[1:], best, strict=True))

    def test_quotes_stand_where_they_say(self, asker, settings):
        result = asker.answer(QUESTION, settings)
        for quote in (*result.quotes, *result.doubtful):
            assert quote.passage in result.passages
            assert quote.passage.document.content[quote.start : quote.end] == quote.text
            assert quote.sentence[quote.sentence_start : quote.sentence_end] == quote.text
            assert quote.sentence in quote.passage.document.content
            assert quote.passage.document.embedding is None

    def test_ranks_are_those_of_the_two_searches(self, asker, settings):
        keyword, dense = retrievers_of(asker.collection.library(settings.model).store, 50, "")
        embedding = asker.engine.embedder(settings.model).run(QUESTION)["embedding"]
        by_words = [document.id for document in keyword.run(QUESTION)["documents"]]
        by_meaning = [document.id for document in dense.run(embedding)["documents"]]
        for passage in asker.answer(QUESTION, settings).passages:
            for rank, ids in ((passage.keyword_rank, by_words), (passage.dense_rank, by_meaning)):
                assert (rank is None) == (passage.document.id not in ids)
                assert rank is None or ids[rank - 1] == passage.document.id
        alone = asker.answer(QUESTION, replace(settings, retrieval="dense")).passages
        assert [passage.dense_rank for passage in alone] == list(range(1, 11))
        assert {passage.keyword_rank for passage in alone} == {None}

    @pytest.mark.parametrize(
        ("retrieval", "stages"),
        [
            ("hybrid", ["keyword search", "embed", "dense search", "fuse", "read"]),
            ("dense", ["embed", "dense search", "read"]),
            ("keyword", ["keyword search", "read"]),
        ],
    )
    def test_every_stage_is_timed(self, asker, settings, retrieval, stages):
        result = asker.answer(QUESTION, replace(settings, retrieval=retrieval))
        assert list(result.seconds) == stages
        assert min(result.seconds.values()) > 0

    def test_words_that_stand_nowhere(self, asker, settings):
        result = asker.answer("Xyzzy?", replace(settings, retrieval="keyword"))
        assert (result.passages, result.quotes, result.doubtful, result.no_answer_score) == ((), (), (), 1.0)
        assert result.finished

    def test_changes_of_the_collection_are_followed(self, settings, engine, tmp_path):
        documents = tmp_path / "documents"
        documents.mkdir()
        (documents / "one.txt").write_text("The Nile flows north.", encoding="utf-8")
        (tmp_path / "home").mkdir()
        changing = Collection("changing", "Changing", "linked", documents, tmp_path / "home")
        changing.reindex(model=settings.model)
        asker = Asker(changing, engine)
        assert len(asker.answer("Which river?", settings).passages) == 1
        (documents / "two.txt").write_text("The Rhine flows north, too.", encoding="utf-8")
        changing.reindex(model=settings.model)
        assert len(asker.answer("Which river?", settings).passages) == 2

    def test_many_at_once_get_what_one_gets(self, asker, settings):
        questions = [f"{word} stayed in orbit around the Moon?" for word in ("Who", "What", "Which", "Where")] * 3
        expected = [asker.answer(question, settings) for question in questions]
        with ThreadPoolExecutor(6) as threads:
            found = list(threads.map(lambda question: asker.answer(question, settings), questions))
        for one, other in zip(found, expected, strict=True):
            assert [q.text for q in one.quotes] == [q.text for q in other.quotes]
            assert [q.score for q in one.quotes] == pytest.approx([q.score for q in other.quotes], abs=1e-5)


class TestMistakes:
    """What can't be asked, in words for the user."""

    @pytest.mark.parametrize("blank", ["", " \n"])
    def test_no_question(self, asker, settings, blank):
        with pytest.raises(AskingError, match="ask with at least one word"):
            asker.answer(blank, settings)

    def test_a_reader_that_was_not_calibrated(self, asker, settings, tiny_checkpoint):
        with pytest.raises(AskingError, match=r"'fast', which this checkpoint was not calibrated for; it has: off"):
            asker.answer(QUESTION, replace(settings, reader=str(tiny_checkpoint), reading="fast"))

    def test_a_collection_that_was_not_indexed(self, settings, engine, tmp_path):
        (tmp_path / "documents").mkdir()
        new = Collection("new", "New", "linked", tmp_path / "documents", tmp_path / "home")
        with pytest.raises(AskingError, match="There is no index of"):
            Asker(new, engine).answer(QUESTION, settings)

    def test_a_checkpoint_that_is_not_there(self, asker, settings, tmp_path):
        with pytest.raises(AskingError, match="nowhere"):
            asker.answer(QUESTION, replace(settings, reader=str(tmp_path / "nowhere")))


@pytest.mark.integration
def test_the_bundled_checkpoint_answers(engine, tmp_path):
    (tmp_path / "home").mkdir()
    sample = Collection("moon", "Moon", "linked", tmp_path, tmp_path / "home")
    shutil.copy(SAMPLE / "the-moon.md", tmp_path)
    sample.reindex()
    result = Asker(sample, engine).answer(QUESTION)
    assert result.quotes[0].text == "Michael Collins"
    assert result.quotes[0].passage.keyword_rank
    assert result.quotes[0].score > 0.5
    assert result.engine == engine.name == "torch-float32"
