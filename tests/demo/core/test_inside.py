"""What happened while a question was answered, with the tiny model over three documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.core.asking import Asker
from demo.core.collection import Collection
from demo.core.encoders import encoder_at_work
from demo.core.engine import Engine
from demo.core.inside import found_rows, read_passages, stage_times
from demo.core.passage_map import NothingToMapError, Plane, survey, with_question
from demo.core.results import Settings
from rom_haystack.inference import REGISTRY, EncoderSpec
from rom_haystack.inference.reading import sigmoid

QUESTION = "Which river flows through Egypt?"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Collection:
    folder = tmp_path_factory.mktemp("documents")
    for name, river, country in (("Nile", "Nile", "Egypt"), ("Rhine", "Rhine", "Germany"), ("Po", "Po", "Italy")):
        text = "\n\n".join(f"The river {river} flows through {country}, in its part {n}. " * 20 for n in range(4))
        (folder / f"{name}.md").write_text(f"# The {name}\n\n{text}", encoding="utf-8")
    made = Collection("rivers", "Rivers", "linked", folder, tmp_path_factory.mktemp("home"))
    made.reindex(model=str(tiny_checkpoint))
    return made


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def settings(tiny_checkpoint: Path) -> Settings:
    return Settings(model=str(tiny_checkpoint), reader=str(tiny_checkpoint), passages=5)


@pytest.fixture(scope="module")
def result(collection: Collection, engine: Engine, settings: Settings):
    return Asker(collection, engine).answer(QUESTION, settings)


@pytest.fixture(scope="module")
def store(collection: Collection, settings: Settings):
    return collection.library(settings.model).store


class TestReadings:
    def test_are_the_models_own(self, result, settings):
        readings = read_passages(result)
        with encoder_at_work(settings.reader) as encoder:
            texts = [found.document.content for found in result.passages]
            expected = encoder.relevance([QUESTION] * len(texts), texts)
        assert [reading.relevance for reading in readings] == pytest.approx([sigmoid(x) for x in expected], abs=1e-5)
        assert {reading.engine for reading in readings} == {"torch-float32"}

    def test_reach_the_answers_that_were_given(self, result):
        """A quote begins and ends where tokens do that may begin and end an answer."""
        readings = dict(zip((found.document.id for found in result.passages), read_passages(result), strict=True))
        quotes = [*result.quotes, *result.doubtful]
        assert quotes
        for quote in quotes:
            tokens = readings[quote.passage.document.id].tokens
            assert tokens.start[tokens.offsets[:, 0] == quote.start].max() > 0
            assert tokens.end[tokens.offsets[:, 1] == quote.end].max() > 0

    def test_a_lent_model_is_given_back(self, settings):
        spec = EncoderSpec.create(settings.reader)
        before = REGISTRY.users(spec)
        with encoder_at_work(settings.reader):
            assert REGISTRY.users(spec) == before + 1
        assert REGISTRY.users(spec) == before


class TestRows:
    def test_say_what_was_found(self, result):
        rows = found_rows(result, read_passages(result))
        assert [row.rank for row in rows] == [1, 2, 3, 4, 5]
        assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
        assert {row.title for row in rows} <= {"The Nile", "The Rhine", "The Po"}
        assert any(row.keyword_rank for row in rows)
        assert any(row.dense_rank for row in rows)
        assert sum(row.quotes for row in rows) == len(result.quotes)
        assert all(row.was_read for row in rows)

    def test_what_was_not_read(self, result):
        rows = found_rows(replace(result, read=2), read_passages(result))
        assert [row.was_read for row in rows] == [True, True, False, False, False]


class TestTimes:
    def test_in_order_with_shares(self, result):
        times = stage_times(result)
        assert [time.stage for time in times] == ["embed", "keyword search", "dense search", "fuse", "read"]
        assert sum(time.share for time in times) == pytest.approx(1)
        assert sum(time.milliseconds for time in times) == pytest.approx(1000 * sum(result.seconds.values()))

    def test_only_of_steps_that_were_taken(self, result):
        times = stage_times(replace(result, seconds={"read": 0.02, "keyword search": 0.005}))
        assert [time.stage for time in times] == ["keyword search", "read"]
        assert [time.milliseconds for time in times] == pytest.approx([5, 20])
        assert [time.share for time in times] == pytest.approx([0.2, 0.8])


class TestPlane:
    def test_holds_what_lies_in_a_plane(self):
        rng = np.random.default_rng(3)
        basis = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
        flat = rng.normal(size=(40, 2)) * [5, 2]
        plane = Plane.through(flat @ basis + 7)
        assert plane.variance == pytest.approx(1)
        placed = plane.place(flat @ basis + 7)
        distances = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (placed, flat)]
        np.testing.assert_allclose(*distances, atol=1e-9)
        assert placed[:, 0].var() > placed[:, 1].var()

    def test_tells_the_share_that_it_holds(self):
        rng = np.random.default_rng(5)
        points = rng.normal(size=(4000, 4)) * [3, 2, 1, 0]
        assert Plane.through(points).variance == pytest.approx(13 / 14, abs=0.01)

    def test_is_the_same_every_time(self):
        points = np.random.default_rng(7).normal(size=(30, 5))
        np.testing.assert_allclose(Plane.through(points).axes, Plane.through(points[::-1]).axes, atol=1e-9)

    @pytest.mark.parametrize("count", [1, 2])
    def test_through_hardly_any_points(self, count):
        points = np.random.default_rng(9).normal(size=(count, 5))
        plane = Plane.through(points)
        assert plane.variance == pytest.approx(1)
        assert np.isfinite(plane.place(points)).all()


class TestMap:
    def test_all_passages_and_the_question(self, store, result, engine, settings):
        surveyed = survey(store)
        assert len(surveyed.points) == surveyed.total == store.count_documents() > 5
        drawn = with_question(surveyed, store, result, engine)
        assert [point.rank for point in sorted(drawn.points, key=lambda p: p.rank or 99)][:5] == [1, 2, 3, 4, 5]
        assert {point.id for point in drawn.points if point.quoted} == {q.passage.document.id for q in result.quotes}
        assert len(drawn.points) == surveyed.total
        with encoder_at_work(settings.model) as encoder:
            (question,) = encoder.encode_queries([QUESTION])
        assert (drawn.x, drawn.y) == pytest.approx(tuple(surveyed.plane.place(question[None])[0]), abs=1e-5)

    def test_a_sample_and_what_was_found_beside_it(self, store, result, engine):
        surveyed = survey(store, sample=3)
        assert (len(surveyed.points), surveyed.total) == (3, store.count_documents())
        assert len({point.id for point in surveyed.points}) == 3
        drawn = with_question(surveyed, store, result, engine)
        found = {found.document.id for found in result.passages}
        assert {point.id for point in drawn.points} == found | {point.id for point in surveyed.points}
        whole = {point.id: point for point in with_question(survey(store), store, result, engine).points}
        assert all(point.text == whole[point.id].text and point.rank == whole[point.id].rank for point in drawn.points)

    def test_nothing_to_map(self, tmp_path, tiny_checkpoint):
        (tmp_path / "documents").mkdir()
        (tmp_path / "home").mkdir()
        empty = Collection("empty", "Empty", "linked", tmp_path / "documents", tmp_path / "home")
        empty.reindex(model=str(tiny_checkpoint))
        with pytest.raises(NothingToMapError, match="no passages to map"):
            survey(empty.library(str(tiny_checkpoint)).store)
