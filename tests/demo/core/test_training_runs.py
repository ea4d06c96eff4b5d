"""Run folders of the training, as the training itself makes them."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from demo.core.training_reports import Report, find_reports, resampled, side_by_side
from demo.core.training_runs import RunError, differences, find_runs, read_run, smoothed, thinned
from training.__main__ import app


def test_a_finished_run(finished):
    assert find_runs(finished) == [finished]
    run = read_run(finished)
    assert (run.name, run.finished, run.step, run.steps) == ("finished", True, 40, 40)
    assert run.seconds > 0
    assert next(iter(run.curves)) == "loss"
    assert "reading/span_loss" in run.curves
    assert "retrieval/recall@1" in run.curves
    assert "train_runtime" not in run.curves
    assert "step" not in run.curves
    assert list(run.curves)[-3:] == ["epoch", "grad_norm", "learning_rate"]
    assert [step for step, _ in run.curves["loss"]] == [20, 40]
    assert run.settings["name"] == "finished"
    assert run.settings["tasks.reading.batch_size"] == "2"


def test_a_run_that_is_going_on(interrupted):
    run = read_run(interrupted)
    assert (run.finished, run.step, run.steps, run.seconds) == (False, 25, 40, None)
    assert [step for step, _ in run.curves["loss"]] == [20]


def test_a_run_that_goes_on_after_its_end(train):
    folder = train("longer")
    before = read_run(folder)
    assert before.finished
    again = train("longer", "--steps", "80", "--stop-after", "60")
    assert again == folder
    run = read_run(folder)
    assert (run.finished, run.step, run.steps) == (False, 60, 80)
    assert [step for step, _ in run.curves["loss"]] == [20, 40, 60]


def test_runs_in_a_folder_are_found_and_differ_in_their_settings(finished, interrupted):
    found = find_runs(finished.parent)
    assert {finished, interrupted} <= set(found)
    changed = differences([read_run(finished), read_run(interrupted)])
    assert changed["name"] == ["finished", "interrupted"]
    assert changed["learning_rate"][1] == "0.001"
    assert "seed" not in changed


def test_damage_is_named_and_what_is_being_written_is_passed_over(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    log = folder / "metrics.jsonl"
    whole = log.read_text()
    log.write_text(whole + '{"loss": 1.0, "st')
    assert read_run(folder).curves == read_run(finished).curves
    log.write_text('{"loss": NaN, "step": 1}\n{"loss": true, "step": 2}\n3\n' + whole)
    assert [step for step, _ in read_run(folder).curves["loss"]] == [20, 40]
    log.write_text("nothing\n" + whole)
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 1: no JSON"):
        read_run(folder)
    (folder / "settings.json").write_bytes(b"\xff")
    log.write_text(whole)
    with pytest.raises(RunError, match=r"settings\.json can't be read"):
        read_run(folder)
    (folder / "checkpoint-99").mkdir()
    (folder / "checkpoint-99" / "trainer_state.json").write_text('{"global')
    (folder / "settings.json").unlink()
    assert read_run(folder).step == 40


def test_folders_without_runs_are_named(tmp_path):
    with pytest.raises(RunError, match=r"no training run in .*metrics\.jsonl"):
        find_runs(tmp_path)
    (tmp_path / "settings.json").write_text("[" * 10**6)
    with pytest.raises(RunError, match="no training run"):
        find_runs(tmp_path)
    for folder in (tmp_path / "none", tmp_path / "settings.json", tmp_path / "a\0b"):
        with pytest.raises(RunError, match=r"no folder|can't be read"):
            find_runs(folder)


def test_a_run_that_has_just_begun_is_one(tmp_path):
    (tmp_path / "settings.json").write_text('{"name": "new", "tasks": {"reading": {}}}')
    run = read_run(find_runs(tmp_path)[0])
    assert (run.curves, run.step, run.finished) == ({}, 0, False)


def test_a_run_that_is_gone_is_named(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    assert read_run(tmp_path / "run").finished
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match=r"run' is gone"):
        read_run(tmp_path / "run")


def test_smoothing_makes_up_for_the_start():
    points = [(1, 4.0), (2, 0.0), (3, 4.0)]
    assert smoothed(points, 0) == points
    assert smoothed(points, 0.5) == [(1, 4.0), (2, pytest.approx(4 / 3)), (3, pytest.approx(20 / 7))]
    assert smoothed([(step, 3.0) for step in range(5)], 0.9)[-1] == (4, pytest.approx(3.0))


def test_thinning_keeps_the_last():
    points = [(step, float(step)) for step in range(1000)]
    thin = thinned(points, 100)
    assert len(thin) == 100
    assert thin[-1] == points[-1]
    assert thinned(points[:100], 100) == points[:100]


class TestReports:
    @staticmethod
    def write(path, **systems):
        figures = {
            name.replace("_", " "): {"F1": {"mean": mean, "low": mean - 1, "high": mean + 1}}
            for name, mean in systems.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {"question count": 5}, "systems": figures}))

    def test_they_are_found_in_the_folder_and_those_in_it(self, tmp_path):
        self.write(tmp_path / "report.json", rom=60.0)
        self.write(tmp_path / "model" / "evaluation.json", rom=61.0)
        self.write(tmp_path / "checkpoint-5" / "report.json", rom=1.0)
        (tmp_path / "other.json").write_text('{"systems": {"rom": {"F1": 3}}}')
        (tmp_path / "list.json").write_text("[1]")
        (tmp_path / "broken.json").write_bytes(b"\xff")
        assert [report.name for report in find_reports(tmp_path)] == ["model/evaluation", "report"]

    def test_those_in_inner_folders_can_be_left_out(self, tmp_path):
        for name in ("all", "inner/one"):
            self.write(tmp_path / f"{name}.json", rom=80)
        assert [report.name for report in find_reports(tmp_path, inner=False)] == ["all"]

    def test_a_folder_that_is_gone_has_none(self, tmp_path):
        assert list(find_reports(tmp_path / "gone", inner=False)) == []

    def test_the_same_figures_come_once(self, tmp_path):
        self.write(tmp_path / "a.json", rom=60.0, bm25=50.0)
        self.write(tmp_path / "b.json", rom=61.0, bm25=50.0, untuned_base=55.0)
        table = side_by_side(list(find_reports(tmp_path)))
        assert table.systems == ("a: rom", "bm25", "b: rom", "untuned base")
        assert [str(figure) for figure in table.rows["F1"]] == [
            "60.0 (59.0–61.0)",
            "50.0 (49.0–51.0)",
            "61.0 (60.0–62.0)",
            "55.0 (54.0–56.0)",
        ]

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ([{}, {"article count": None}, {"article count": 1}, {"article count": "many"}], "questions"),
            ([{"article count": 24}, {"article count": 24}], "articles (24; questions where none are known)"),
            ([{"article count": 24}, {}, {"article count": 7}], "articles (7, 24; questions where none are known)"),
        ],
    )
    def test_what_their_intervals_come_from(self, settings, words):
        assert resampled([Report("report", {}, of) for of in settings]) == words

    def test_the_trainings_own_reports_are_read(self, finished, feedback, tmp_path):
        data = tmp_path / "data" / "squad" / "dev"
        data.parent.mkdir(parents=True)
        convert = ["convert-data", feedback.path, data, "--to", "jsonl"]
        assert CliRunner().invoke(app, list(map(str, convert))).exit_code == 0
        shutil.copytree(data, data.parent / "train")
        report = finished / "report.json"
        arguments = ["evaluate", finished / "model", "--data", tmp_path / "data", "--report", report]
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        (found,) = read_run(finished).reports
        assert set(found.systems) == {"rom", "hybrid", "bm25"}
        assert found.systems["rom"].keys() > {"recall@1", "end-to-end F1", "reading EM"}
        report.unlink()
