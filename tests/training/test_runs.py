"""What a run leaves in its folder, when, and what stops it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import training.environment as environment_module
from training.__main__ import app
from training.checkpoints import last_checkpoint, whole_checkpoints
from training.environment import environment
from training.errors import DataError, RecipeError, RunError
from training.loop import ROMTrainer
from training.recipe import load_recipe
from training.runs import claim_folder, make_folder, read_metrics
from training.tasks.reading import ReadingTask
from training.trainer import train, training_arguments, worker_count

ROOT = Path(__file__).parents[2]
READING = {"reading": {"batch_size": 4, "max_length": 48, "stride": 8, "max_query_length": 12}}


def steps_of(run):
    return [entry["step"] for entry in read_metrics(run) if "loss" in entry]


class TestFolder:
    def test_holds_recipe_environment_metrics_curves_and_model(self, bert_folder, make_recipe, data_root, tmp_path):
        recipe = make_recipe(bert_folder, steps=0, epochs=1, tasks=READING, log_every=2, bf16=True, remarks="Späße")
        run = tmp_path / "run"
        train(recipe, data_root, run)
        names = {"settings.json", "recipe.resolved.yaml", "environment.json", "metrics.jsonl", "curves.html"}
        assert {path.name for path in run.iterdir()} == names | {"curves.png", "model", "checkpoint-3"}
        resolved = load_recipe(run / "recipe.resolved.yaml")
        assert (resolved.steps, resolved.epochs, resolved.remarks) == (3, None, "Späße")
        assert resolved.task_options == recipe.task_options
        assert resolved.tasks["reading"]["negative_rate"] == 0.2  # a default
        train(resolved, data_root, tmp_path / "again")
        expected, found = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "again"))
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert steps_of(run) == [2, 3]

    def test_environment(self, monkeypatch, tmp_path):
        found = environment()
        assert found["python"] == platform.python_version()
        assert found["packages"]["torch"] == torch.__version__
        assert found["command"] == sys.orig_argv
        assert found["cores"] >= 1
        if shutil.which("git") and (ROOT / ".git").exists():
            commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
            assert found["commit"].removesuffix("-changed") == commit.stdout.strip()
        copied = tmp_path / "training" / "environment.py"
        copied.parent.mkdir()
        shutil.copy(environment_module.__file__, copied)
        monkeypatch.setattr(environment_module, "__file__", str(copied))
        assert environment()["commit"] is None

    def test_metrics_are_there_while_it_runs(self, bert_folder, make_recipe, data_root, tmp_path, monkeypatch):
        run, seen = tmp_path / "run", []
        step = ROMTrainer.training_step

        def looking(self, *args, **kwargs):
            seen.append(steps_of(run))
            return step(self, *args, **kwargs)

        monkeypatch.setattr(ROMTrainer, "training_step", looking)
        train(make_recipe(bert_folder, steps=3, log_every=1, tasks=READING), data_root, run)
        assert seen == [[], [1], [1, 2]]
        assert steps_of(run) == [1, 2, 3]

    def test_continuing_drops_what_was_logged_after_the_checkpoint(self, bert_folder, make_recipe, data_root, tmp_path):
        recipe = make_recipe(bert_folder, steps=4, log_every=1, tasks=READING)
        run = tmp_path / "run"
        train(recipe, data_root, run, stop_after=2)
        with (run / "metrics.jsonl").open("a") as lines:
            lines.write('{"loss": 1.0, "step": 3}\n{"loss": 2.0, "st')
        assert steps_of(run) == [1, 2, 3]  # the half line is one that is being written
        train(recipe, data_root, run)
        assert steps_of(run) == [1, 2, 3, 4]
        assert sum("train_runtime" in entry for entry in read_metrics(run)) == 1

    def test_means_continue_in_the_middle(self, bert_folder, make_recipe, data_root, tmp_path):
        recipe = make_recipe(bert_folder, steps=5, log_every=5, dropout=0.1)
        train(recipe, data_root, tmp_path / "whole")
        train(recipe, data_root, tmp_path / "parts", stop_after=2)
        train(recipe, data_root, tmp_path / "parts")
        (expected,), (found,) = ([e for e in read_metrics(tmp_path / n) if "loss" in e] for n in ("whole", "parts"))
        assert found == expected
        starts = json.loads((tmp_path / "parts" / "environment.json").read_text(encoding="utf-8"))
        assert [start["after_step"] for start in starts] == [0, 2]

    def test_keeps_two_checkpoints(self, bert_folder, make_recipe, data_root, tmp_path):
        train(make_recipe(bert_folder, steps=4, checkpoint_every=1, tasks=READING), data_root, tmp_path / "run")
        assert list(whole_checkpoints(tmp_path / "run")) == [3, 4]

    def test_of_an_older_version_is_continued(self, bert_folder, make_recipe, data_root, tmp_path):
        recipe = make_recipe(bert_folder)
        claim_folder(recipe, data_root, tmp_path)
        path = tmp_path / "settings.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        for key in ("gradient_accumulation", "development", "metric", "processes", "files"):
            del settings[key]
        path.write_text(json.dumps(settings), encoding="utf-8")
        claim_folder(recipe, data_root, tmp_path)
        with pytest.raises(RecipeError, match="gradient_accumulation = 1, not 2"):
            claim_folder(make_recipe(bert_folder, gradient_accumulation=2), data_root, tmp_path)

    def test_many_processes_may_look_at_once(self, tmp_path):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(make_folder, [tmp_path / "run"] * 400))
        assert list((tmp_path / "run").iterdir()) == []

    def test_that_can_not_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(RecipeError, match=r"run folder .*file can't be written .* Choose another --output"):
            make_folder(tmp_path / "file")


def test_a_step_takes_as_many_batches_as_are_accumulated(bert_folder, make_recipe, data_root, tmp_path, monkeypatch):
    taken = []
    loss = ROMTrainer.compute_loss

    def noting(self, model, inputs, *args, **kwargs):
        taken.append((self.state.global_step, inputs["item"]))
        return loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ROMTrainer, "compute_loss", noting)
    recipe = make_recipe(bert_folder, steps=3, gradient_accumulation=2, tasks=READING)
    train(recipe, data_root, tmp_path / "run")
    assert taken == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    taken.clear()
    train(recipe, data_root, tmp_path / "parts", stop_after=1)
    train(recipe, data_root, tmp_path / "parts")
    assert taken == [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]


def test_a_single_process_uses_a_single_gpu(make_recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", property(lambda self: getattr(self, "_n_gpu", 0) or 4))
    arguments = training_arguments(make_recipe("encoder"), tmp_path)
    assert arguments.train_batch_size == 1
    assert "Only one of 4 GPUs is used. `accelerate launch" in caplog.text


def test_tensorboard(bert_folder, make_recipe, data_root, tmp_path):
    if not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        pytest.skip("TensorBoard is not installed")
    train(make_recipe(bert_folder, tensorboard=True, tasks=READING), data_root, tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


class TestFailures:
    def fail(self, monkeypatch, at, spoil):
        """Spoil the loss of a batch."""
        loss, calls = ReadingTask.loss, []

        def spoiled(task, model, features):
            calls.append(1)
            value, metrics = loss(task, model, features)
            return (spoil(value, model) if len(calls) == at else value), metrics

        monkeypatch.setattr(ReadingTask, "loss", spoiled)

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda loss, model: loss * float("nan"), r"the loss is not finite \(reading: nan\)"),
            (lambda loss, model: loss / 0, r"the loss is not finite \(reading: inf\)"),
            # 0 in itself, but its slope is infinite
            (lambda loss, model: loss + (loss * 0).sqrt(), "a gradient is not finite"),
        ],
        ids=["nan", "infinite", "gradient"],
    )
    def test_stop_with_the_batches(self, bert_folder, make_recipe, data_root, tmp_path, monkeypatch, spoil, message):
        recipe = make_recipe(
            bert_folder, steps=9, checkpoint_every=1, log_every=1, gradient_accumulation=2, tasks=READING
        )
        self.fail(monkeypatch, 6, spoil)
        run = tmp_path / "run"
        with pytest.raises(RunError, match=rf"In step 3 {message}, so training stopped.* Try a lower 'learning_rate'"):
            train(recipe, data_root, run)
        folder = run / "failed-step-3"
        items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        assert [item["item"] for item in items] == [4, 5]
        assert [item["tasks"]["reading"]["batch"] for item in items] == [4, 5]
        features = torch.load(folder / "features.pt", weights_only=True)
        known = {f"q{i}" for i in range(12)}
        for item, batch in zip(items, features, strict=True):
            ids = item["tasks"]["reading"]["ids"]
            assert set(ids) <= known
            assert len(ids) == len(batch["reading"]["relevant"]) == 4
        assert steps_of(run) == [1, 2]
        assert last_checkpoint(run) == run / "checkpoint-2"
        assert not (run / "model").exists()

    def test_on_the_command_line(self, bert_folder, make_recipe, data_root, tmp_path, monkeypatch):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            f"name: tiny\nencoder: {bert_folder}\ndata: mini\nsteps: 2\nbf16: false\ntasks: {json.dumps(READING)}\n"
        )
        self.fail(monkeypatch, 1, lambda loss, model: loss * float("nan"))
        arguments = ["train", str(path), "--data", str(data_root), "--output", str(tmp_path / "run")]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "In step 1 the loss is not finite (reading: nan)" in " ".join(result.output.split())


def test_workers_change_nothing(bert_folder, make_recipe, data_root, tmp_path, monkeypatch):
    makers = tmp_path / "makers"
    makers.mkdir()
    batch = ReadingTask.batch

    def noting(task, number):
        (makers / str(os.getpid())).touch()
        return batch(task, number)

    monkeypatch.setattr(ReadingTask, "batch", noting)
    changes = {"steps": 6, "log_every": 1, "checkpoint_every": 3, "dropout": 0.1, "tasks": READING}
    train(make_recipe(bert_folder, **changes), data_root, tmp_path / "alone")
    assert [path.name for path in makers.iterdir()] == [str(os.getpid())]
    recipe = make_recipe(bert_folder, workers=2, **changes)
    assert train(recipe, data_root, tmp_path / "helped", stop_after=4) is None
    assert train(recipe, data_root, tmp_path / "helped")
    assert len(list(makers.iterdir())) == 5  # this process, and two for each start
    alone, helped = (
        [entry for entry in read_metrics(tmp_path / name) if "loss" in entry] for name in ("alone", "helped")
    )
    assert helped == alone
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("alone", "helped")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_workers_where_there_is_a_gpu(bert_folder, make_recipe, monkeypatch):
    assert worker_count(make_recipe(bert_folder)) == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert [worker_count(make_recipe(bert_folder, workers=workers)) for workers in (None, 0, 3)] == [8, 0, 3]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert worker_count(make_recipe(bert_folder)) == 3
    monkeypatch.setattr("torch.multiprocessing.get_all_start_methods", lambda: ["spawn"])
    assert worker_count(make_recipe(bert_folder)) == 0
    with pytest.raises(RecipeError, match="'workers' is 3, but this system can't fork"):
        worker_count(make_recipe(bert_folder, workers=3))


class TestMetricsFile:
    def test_of_no_run(self, tmp_path):
        with pytest.raises(RecipeError, match=r"can't be read .*is .* the folder of a run\?"):
            read_metrics(tmp_path)

    def test_damaged(self, tmp_path):
        (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
        with pytest.raises(RecipeError, match=r"metrics\.jsonl, line 2: not JSON"):
            read_metrics(tmp_path)


class TestDevelopmentData:
    def test_missing(self, bert_folder, make_recipe, data_root, tmp_path):
        with pytest.raises(DataError, match="nowhere: no such file or folder"):
            train(make_recipe(bert_folder, development="nowhere"), data_root, tmp_path / "run")

    def test_without_answers(self, bert_folder, make_recipe, data_root, tmp_path):
        shutil.copytree(data_root / "mini", data_root / "none")
        questions = data_root / "none" / "questions.jsonl"
        questions.write_text(questions.read_text(encoding="utf-8").splitlines()[-1] + "\n")
        with pytest.raises(DataError, match="no question there has an answer, so nothing can be measured on it"):
            train(make_recipe(bert_folder, development="none"), data_root, tmp_path / "run")

    @pytest.mark.parametrize(("metric", "heads"), [("recall@1", {"reading": {}}), ("recall@20", None)])
    def test_that_lacks_the_metric(self, bert_folder, make_recipe, data_root, tmp_path, metric, heads):
        recipe = make_recipe(bert_folder, development="mini", patience=1, metric=metric, heads=heads, tasks=READING)
        with pytest.raises(RecipeError, match=f"'metric' is '{metric}', which can't be measured.*Choose from EM, F1"):
            train(recipe, data_root, tmp_path / "run")
