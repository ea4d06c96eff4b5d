"""Runs that are killed, stopped or interrupted, and runs of several processes, end as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import training.trainer as trainer_module
from training.checkpoints import checkpoint_at, last_checkpoint, whole_checkpoints
from training.errors import RecipeError
from training.loop import ROMTrainer
from training.trainer import train

from .conftest import metrics_of, weights_of

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# Softmax takes no notice of what is added to all of its logits, so these have gradients of rounding errors only, which
# Adam turns into steps as large as any: other orders of summation, other weights, of the same model.
WITHOUT_GRADIENT = (".key.bias", "heads.reading.span.bias")


def run_child(*arguments, **environment):
    """Run Python with this checkout on its path; return what it printed."""
    command = [sys.executable, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-9000:]
    return done.stdout


def weights_of_steps(recipe, data, run, steps):
    """Train up to a step, and return the weights of its checkpoint."""
    train(recipe, data, run, stop_after=steps)
    return load_file(checkpoint_at(run, steps) / "model.safetensors")


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def recipe_file(tmp_path):
    def write(recipe):
        values = {key: value for key, value in asdict(recipe).items() if key != "task_options"}
        path = tmp_path / f"{recipe.name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes a system that forks")
def test_killed_at_the_start_the_middle_or_the_end_of_a_save_it_continues_to_the_same_end(
    bert_folder, make_recipe, recipe_file, data_root, tmp_path
):
    recipe = make_recipe(bert_folder, steps=5, checkpoint_every=1, log_every=2, dropout=0.1)
    runs = tmp_path / "runs"
    runs.mkdir()
    printed = run_child(HERE / "kill_while_saving.py", recipe_file(recipe), data_root, runs, 3)
    result = json.loads(printed.splitlines()[-1])
    assert result["total"] > 20
    assert len(result["moments"]) == 3
    assert result["ended"] == [0] + [-9, 0] * 3
    expected, weights = metrics_of(runs / "whole"), weights_of(runs / "whole")
    assert [entry["step"] for entry in expected] == [2, 4, 5, 5]
    assert [entry["loss"] > 0 for entry in expected[:-1]] == [True] * 3
    begun = set()
    for moment in result["moments"]:
        run = runs / f"killed-{moment}"
        assert metrics_of(run) == expected
        assert same_weights(weights_of(run), weights)
        assert {path.name for path in run.iterdir()} == {path.name for path in (runs / "whole").iterdir()}
        starts = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        before, after = (start["after_step"] for start in starts)
        assert before == 0
        begun.add(after)
    assert begun == {2, 3}  # before the checkpoint had its name, and after


def test_two_processes_train_like_one_that_takes_two_batches_a_step(
    bert_folder, make_recipe, recipe_file, data_root, tmp_path
):
    if not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    changes = {"steps": 4, "log_every": 1, "checkpoint_every": 100, "development": "mini", "evaluate_every": 3}
    schedules = ("joint", "alternating")
    for schedule in schedules:
        recipe_file(make_recipe(bert_folder, name=schedule, schedule=schedule, **changes))
    launch = ("--multi_gpu", "--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no")
    launch += ("--dynamo_backend", "no", "--main_process_port", 0)  # without GPUs they are processes on the CPU
    run_child("-m", "accelerate.commands.launch", *launch, HERE / "two_processes.py", data_root, tmp_path, *schedules)
    for schedule in schedules:
        one, two = tmp_path / f"{schedule}-alone", tmp_path / f"{schedule}-whole"
        train(make_recipe(bert_folder, gradient_accumulation=2, schedule=schedule, **changes), data_root, one)
        expected, found = metrics_of(one), metrics_of(two)
        assert [entry["step"] for entry in found] == [1, 2, 3, 3, 4, 4, 4]
        for entry, other in zip(expected, found, strict=True):
            assert entry.keys() == other.keys()
            assert [other[key] for key in entry] == pytest.approx(list(entry.values()), rel=1e-3, abs=2e-4)
        weights = weights_of(two)
        for name, value in weights_of(one).items():
            if not name.endswith(WITHOUT_GRADIENT):
                torch.testing.assert_close(weights[name], value, atol=1e-4, rtol=1e-3)
    assert metrics_of(tmp_path / "alternating-parts") == metrics_of(tmp_path / "alternating-whole")
    assert same_weights(weights_of(tmp_path / "alternating-parts"), weights)
    starts = json.loads((tmp_path / "alternating-parts" / "environment.json").read_text(encoding="utf-8"))
    assert [(start["after_step"], start["processes"]) for start in starts] == [(0, 2), (2, 2)]
    said = [(tmp_path / f"failed-{rank}.txt").read_text() for rank in (0, 1)]  # neither waits for the other
    assert said[0].startswith("In step 1 another process's loss is not finite, so training stopped.")
    assert said[1].startswith("In step 1 the loss is not finite (reading: nan), so training stopped.")
    assert [(tmp_path / "failed" / name).is_dir() for name in ("failed-step-1", "failed-step-1-process-1")] == [
        True
    ] * 2
    with pytest.raises(RecipeError, match="belongs to a run with processes = 2, not 1"):
        train(make_recipe(bert_folder, name="joint", **changes), data_root, tmp_path / "joint-whole")


@pytest.mark.parametrize("schedule", ["joint", "alternating"])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    bert_folder, make_recipe, data_root, tmp_path, monkeypatch, schedule
):
    class Failing(ROMTrainer):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == 3:
                raise KeyboardInterrupt
            return super().training_step(*args, **kwargs)

    arguments = trainer_module.training_arguments

    def log_every_step(*args):
        made = arguments(*args)
        made.logging_steps = 1
        return made

    monkeypatch.setattr(trainer_module, "training_arguments", log_every_step)
    recipe = make_recipe(bert_folder, steps=4, checkpoint_every=2, dropout=0.1, schedule=schedule)
    train(recipe, data_root, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "ROMTrainer", Failing)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, data_root, tmp_path / "parts")
    assert (tmp_path / "parts" / "checkpoint-2").is_dir()
    assert not (tmp_path / "parts" / "model").exists()
    train(recipe, data_root, tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [[e for e in metrics_of(tmp_path / name) if "loss" in e] for name in ("whole", "parts")]
    assert len(steps[0]) == 4
    assert steps[0] == steps[1]


def test_a_run_may_stop_early_and_be_continued(bert_folder, make_recipe, data_root, tmp_path):
    recipe = make_recipe(bert_folder, steps=3)
    train(recipe, data_root, tmp_path / "whole", stop_after=9)
    for _ in range(2):
        assert train(recipe, data_root, tmp_path / "parts", stop_after=1) is None
        assert list(whole_checkpoints(tmp_path / "parts")) == [1]
    assert not (tmp_path / "parts" / "model").exists()
    assert train(recipe, data_root, tmp_path / "parts") == tmp_path / "parts" / "model"
    assert train(recipe, data_root, tmp_path / "parts", stop_after=2) is None
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_that_is_given_more_steps_learns_from_the_first_of_them(bert_folder, make_recipe, data_root, tmp_path):
    """The rate at its old end was 0."""
    before = weights_of_steps(make_recipe(bert_folder, steps=2, layer_decay=0.5), data_root, tmp_path / "run", 2)
    longer = make_recipe(bert_folder, steps=4, layer_decay=0.5)
    first = weights_of_steps(longer, data_root, tmp_path / "run", 3)
    last = weights_of_steps(longer, data_root, tmp_path / "run", 4)
    learning = {name for name in last if not torch.equal(last[name], first[name])}
    assert len(learning) > 20
    assert {name for name in first if not torch.equal(first[name], before[name])} == learning


def test_a_finished_run_keeps_what_was_put_beside_its_model(bert_folder, make_recipe, data_root, tmp_path):
    """Its calibration, when the same command is given again; another model does not get it."""
    for steps in (1, 3):
        for again in (False, True):
            model = train(make_recipe(bert_folder, steps=steps), data_root, tmp_path / "run")
            if not again:
                assert not (model / "calibration.json").exists()
                (model / "calibration.json").write_text("{}")
        assert (model / "calibration.json").exists()
    assert [path.name for path in (tmp_path / "run").glob("*model*")] == ["model"]


def test_a_checkpoint_cut_off_while_it_was_written_is_passed_over(bert_folder, make_recipe, data_root, tmp_path):
    recipe = make_recipe(bert_folder, steps=3, checkpoint_every=1)
    train(recipe, data_root, tmp_path / "whole")
    expected = weights_of(tmp_path / "whole")
    assert train(recipe, data_root, tmp_path / "begun", stop_after=1) is None
    for name, state in (("no state", None), ("half a state", '{"global_step": 2, "log_')):
        run = shutil.copytree(tmp_path / "begun", tmp_path / name)
        shutil.copytree(run / "checkpoint-1", run / "checkpoint-2")
        for file in ("optimizer.pt", "model.safetensors"):
            (run / "checkpoint-2" / file).write_bytes(b"half")
        (run / "checkpoint-2" / "trainer_state.json").unlink()
        if state:
            (run / "checkpoint-2" / "trainer_state.json").write_text(state)
        assert last_checkpoint(run) == run / "checkpoint-1"
        train(recipe, data_root, run)
        assert all(torch.equal(value, expected[key]) for key, value in weights_of(run).items())
