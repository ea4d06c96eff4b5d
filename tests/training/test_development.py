"""Development data while a run goes on, and what it decides."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.metrics import f1
from rom_haystack.modeling import load_checkpoint
from training.checkpoints import whole_checkpoints
from training.development import Development, reading_options
from training.errors import RecipeError
from training.loop import ROMTrainer
from training.runs import read_metrics
from training.trainer import train

VALUES = {1: 0.3, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.1, 6: 0.9}
READING = {"reading": {"batch_size": 4, "max_length": 48, "stride": 8, "max_query_length": 12}}


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def scripted(monkeypatch):
    """Let evaluations, by step, find what is told."""

    def tell(values):
        def measure(self, model, tokenizer):
            return {"development/F1": values[trainers[-1].state.global_step]}

        trainers = []
        evaluate = ROMTrainer.evaluate

        def noting(self, *args, **kwargs):
            trainers.append(self)
            return evaluate(self, *args, **kwargs)

        monkeypatch.setattr(ROMTrainer, "evaluate", noting)
        monkeypatch.setattr(Development, "measure", measure)

    return tell


def test_measures_reading_and_retrieval(tiny_checkpoint, data_root):
    development = Development(data_root / "mini", limit=6, seed=1)
    assert len({question.id for question in development.questions}) == 6
    assert len(development.passages) == 7
    assert [q.id for q in Development(data_root / "mini", limit=6, seed=1).questions] == [
        q.id for q in development.questions
    ]
    assert len(Development(data_root / "mini", limit=99, seed=1).questions) == 11  # those with answers
    model, tokenizer = load_checkpoint(tiny_checkpoint)
    found = development.measure(model.train(), tokenizer)
    assert model.training
    assert list(found) == [f"development/{name}" for name in ("EM", "F1", "recall@1", "recall@5")]
    encoder = ROMEncoder.from_model(model.eval(), tokenizer)
    texts = {passage.id: passage.text for passage in development.passages}
    golds = [texts[question.passage_id] for question in development.questions]
    answers = encoder.read([q.text for q in development.questions], golds, ReadingOptions())
    overlaps = [f1(best[0].text, q.answers) for best, q in zip(answers, development.questions, strict=True)]
    assert found["development/F1"] == pytest.approx(np.mean(overlaps), abs=1e-4)
    assert found["development/recall@5"] >= found["development/recall@1"]
    retriever = development.metrics(["retrieval"])
    assert retriever == ["recall@1", "recall@5"]


def test_reads_within_what_an_encoder_takes():
    assert reading_options(512).max_seq_length == 384
    for length in (16, 64, 200):
        assert reading_options(length).max_seq_length == length


def test_leaves_training_as_it_is(bert_folder, make_recipe, data_root, tmp_path):
    changes = {"steps": 3, "log_every": 1, "dropout": 0.1}
    train(make_recipe(bert_folder, **changes), data_root, tmp_path / "without")
    recipe = make_recipe(bert_folder, development="mini", evaluate_every=2, development_questions=3, **changes)
    train(recipe, data_root, tmp_path / "with")
    without, with_it = (
        [entry for entry in read_metrics(tmp_path / name) if "loss" in entry] for name in ("without", "with")
    )
    assert with_it == without
    assert same(weights_of(tmp_path / "with" / "model"), weights_of(tmp_path / "without" / "model"))
    measured = [entry for entry in read_metrics(tmp_path / "with") if "development/F1" in entry]
    assert [entry["step"] for entry in measured] == [2, 3]  # the last step is followed by an evaluation
    lines = (tmp_path / "with" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 2, 3, 3, 3]


class TestEarlyStopping:
    @pytest.fixture
    def recipe(self, bert_folder, make_recipe):
        changes = {"steps": 6, "log_every": 4, "development": "mini", "evaluate_every": 1}
        return lambda **more: make_recipe(bert_folder, tasks=READING, **{**changes, **more})

    def test_stops_and_keeps_the_best(self, recipe, data_root, tmp_path, scripted):
        scripted(VALUES)
        run = tmp_path / "run"
        train(recipe(patience=2, checkpoint_every=1), data_root, run)
        entries = read_metrics(run)
        assert [e["step"] for e in entries if "development/F1" in e] == [1, 2, 3, 4]
        assert [e["step"] for e in entries if "loss" in e] == [1, 2, 3, 4]
        assert list(whole_checkpoints(run)) == [2, 3, 4]
        assert same(weights_of(run / "model"), weights_of(run / "checkpoint-2"))
        assert not same(weights_of(run / "model"), weights_of(run / "checkpoint-4"))

    def test_an_interrupted_run_stops_at_the_same_step(self, recipe, data_root, tmp_path, scripted, monkeypatch):
        scripted(VALUES)
        for name, stops in (("whole", ()), ("parts", (1, 3))):
            for stop in stops:
                assert train(recipe(patience=2), data_root, tmp_path / name, stop_after=stop) is None
            assert train(recipe(patience=2), data_root, tmp_path / name)
        whole, parts = (
            [entry for entry in read_metrics(tmp_path / name) if "train_runtime" not in entry]
            for name in ("whole", "parts")
        )
        assert parts == whole
        assert same(weights_of(tmp_path / "parts" / "model"), weights_of(tmp_path / "whole" / "model"))

    def test_a_run_that_stopped_is_not_trained_on(self, recipe, data_root, tmp_path, scripted, monkeypatch):
        scripted(VALUES)
        run = tmp_path / "run"
        folder = train(recipe(patience=2, checkpoint_every=1), data_root, run)
        expected = weights_of(folder)
        (folder / "model.safetensors").unlink()  # killed before the model was there

        def no_training(self, **_):
            raise AssertionError("trained on")

        monkeypatch.setattr(ROMTrainer, "train", no_training)
        assert train(recipe(patience=2, checkpoint_every=1), data_root, run) == folder
        assert same(weights_of(folder), expected)

    def test_patience_to_the_end_keeps_the_best_and_none_the_last(self, recipe, data_root, tmp_path, scripted):
        scripted({**VALUES, 6: 0.2})
        train(recipe(patience=9), data_root, tmp_path / "patient")
        train(recipe(), data_root, tmp_path / "watched")
        patient, watched = tmp_path / "patient", tmp_path / "watched"
        assert list(whole_checkpoints(patient)) == [2, 6]
        assert same(weights_of(patient / "model"), weights_of(patient / "checkpoint-2"))
        assert list(whole_checkpoints(watched)) == [6]
        assert same(weights_of(watched / "model"), weights_of(watched / "checkpoint-6"))
        assert same(weights_of(watched / "model"), weights_of(patient / "checkpoint-6"))

    def test_patience_may_come_later_where_the_best_model_was_kept(self, recipe, data_root, tmp_path, scripted):
        scripted({**VALUES, 1: 0.6, 6: 0.2})
        run = tmp_path / "run"
        train(recipe(checkpoint_every=1), data_root, run, stop_after=2)
        train(recipe(checkpoint_every=1, patience=9), data_root, run)  # step 1 is one of the two that were kept
        assert same(weights_of(run / "model"), weights_of(run / "checkpoint-1"))

    def test_patience_that_comes_when_the_best_model_is_gone_is_refused(self, recipe, data_root, tmp_path, scripted):
        scripted({**VALUES, 1: 0.95})
        run = tmp_path / "run"
        train(recipe(checkpoint_every=1), data_root, run, stop_after=4)
        before = (run / "recipe.resolved.yaml").read_bytes()
        with pytest.raises(RecipeError, match=r"'patience' is 9, but .* no checkpoint of its best .* after step 1,"):
            train(recipe(checkpoint_every=1, patience=9), data_root, run)
        assert (run / "recipe.resolved.yaml").read_bytes() == before
        assert train(recipe(checkpoint_every=1), data_root, run) is not None
