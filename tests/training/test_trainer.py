"""Training runs, from recipe to loadable model, with every family of encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import load_checkpoint
from training.batches import in_steps
from training.errors import DataError, RecipeError
from training.recipe import load_recipe
from training.runs import claim_folder
from training.schedules import SCHEDULES
from training.trainer import build_tasks, train, training_arguments

from .conftest import metrics_of, weights_of


def test_a_run_makes_a_model_that_reads_and_retrieves(encoder_folder, make_recipe, data_root, tmp_path):
    run = tmp_path / "run"
    folder = train(make_recipe(encoder_folder), data_root, run)
    assert folder == run / "model"
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt"}
    encoder = ROMEncoder.from_model(*load_checkpoint(folder))
    assert encoder.encode_queries(["Who?"]).shape == (1, 32)
    options = ReadingOptions(max_seq_length=48, stride=8, max_query_length=8)
    assert encoder.read(["Who flew?"], ["Three people flew."], options)[0]
    logged = metrics_of(run)[0]
    for metric in ("reading/span_loss", "reading/relevance_loss", "retrieval/bank_contrast", "retrieval/anchor"):
        assert logged[metric] >= 0
    before = load_file(encoder_folder / "model.safetensors")
    after = {name.removeprefix("encoder."): value for name, value in weights_of(run).items()}
    moved = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith("embeddings.") for name in moved)


def test_embeddings_are_trained_when_not_frozen(bert_folder, make_recipe, data_root, tmp_path):
    train(make_recipe(bert_folder, freeze_embeddings=False), data_root, tmp_path / "run")
    before = load_file(bert_folder / "model.safetensors")
    after = weights_of(tmp_path / "run")
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(before[name], after[f"encoder.{name}"])


def test_epochs_pass_every_question(bert_folder, make_recipe, data_root, tmp_path, monkeypatch):
    tasks = {"reading": {"batch_size": 4}, "retrieval": {"batch_size": 5}}
    recipe = make_recipe(bert_folder, steps=0, epochs=2, tasks=tasks, warmup_steps=5)
    built = build_tasks(recipe, data_root, AutoTokenizer.from_pretrained(bert_folder))
    assert [len(built[name].items) for name in tasks] == [12, 11]  # the unanswerable one trains reading only
    assert in_steps(recipe, built).steps == 6
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert in_steps(recipe, built).steps == 2
    monkeypatch.delenv("WORLD_SIZE")
    assert training_arguments(in_steps(recipe, built), tmp_path).warmup_steps == 5
    train(recipe, data_root, tmp_path / "run")
    assert metrics_of(tmp_path / "run")[-1]["step"] == 6


def test_epochs_pass_every_question_where_steps_are_shared(make_recipe, data_root, tiny_tokenizer):
    def steps(reading, retrieval):
        tasks = {"reading": {"batch_size": 4, "weight": reading}, "retrieval": {"batch_size": 6, "weight": retrieval}}
        recipe = make_recipe("encoder", steps=0, epochs=1000, schedule="alternating", tasks=tasks)
        built = build_tasks(recipe, data_root, tiny_tokenizer)
        assert [task.batches_per_epoch for task in built.values()] == [3, 2]
        planned = in_steps(recipe, built).steps
        plan = SCHEDULES["alternating"](recipe.mixture, planned, recipe.seed)
        passed = [sum(name in step for step in plan) / built[name].batches_per_epoch for name in tasks]
        assert min(passed) == pytest.approx(1000, rel=0.05)
        return planned

    assert steps(1, 1) == 6000
    assert steps(3, 1) == 8000
    assert steps(0.1, 0.2) == 9000


def test_the_same_recipe_gives_the_same_model_and_another_seed_another(bert_folder, make_recipe, data_root, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(make_recipe(bert_folder, seed=seed), data_root, tmp_path / name)
    a, b, c = (weights_of(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_bfloat16_and_other_heads(bert_folder, make_recipe, data_root, tmp_path):
    heads = {"retrieval": {"pooling": "cls", "projection_dim": 8}, "reading": {}}
    folder = train(make_recipe(bert_folder, bf16=True, heads=heads), data_root, tmp_path / "run")
    model, _ = load_checkpoint(folder)
    assert model.config.heads == heads
    assert ROMEncoder.from_model(*load_checkpoint(folder)).embedding_dim == 8


def test_one_task_alone(bert_folder, make_recipe, data_root, tmp_path):
    recipe = make_recipe(bert_folder, tasks={"reading": {"batch_size": 2}}, heads={"reading": {}})
    model, _ = load_checkpoint(train(recipe, data_root, tmp_path / "run"))
    assert list(model.heads) == ["reading"]
    assert not (tmp_path / "run" / "passage_bank.safetensors").exists()


class TestMistakes:
    @pytest.mark.parametrize("encoder", ["no/such-encoder", "/no/such/folder"])
    def test_missing_encoder(self, make_recipe, data_root, tmp_path, encoder):
        with pytest.raises(RecipeError, match=f"'encoder' is '{encoder}', which can't be loaded"):
            train(make_recipe(encoder), data_root, tmp_path / "run")

    def test_missing_data(self, bert_folder, make_recipe, data_root, tmp_path):
        with pytest.raises(DataError, match="none: no such file or folder"):
            train(make_recipe(bert_folder, data="none"), data_root, tmp_path / "run")

    def test_question_about_a_missing_passage(self, make_recipe, data_root, tiny_tokenizer):
        path = data_root / "mini" / "questions.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace('"p4"', '"p99"'), encoding="utf-8")
        with pytest.raises(DataError, match="question 'q7' names passage 'p99', which is missing"):
            build_tasks(make_recipe("encoder"), data_root, tiny_tokenizer)

    @pytest.mark.parametrize(("unanswerable", "task"), [("true", "retrieval"), ("false", "reading")])
    def test_no_question_with_an_answer(self, make_recipe, data_root, tiny_tokenizer, unanswerable, task):
        path = data_root / "mini" / "questions.jsonl"
        question = path.read_text(encoding="utf-8").splitlines()[-1]
        path.write_text(question.replace("true", unanswerable) + "\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"no question there has an answer.*, so task '{task}' has nothing"):
            build_tasks(make_recipe("encoder"), data_root, tiny_tokenizer)


def test_a_run_folder_belongs_to_one_recipe_and_data(encoder_folder, make_recipe, data_root, tmp_path):
    claim_folder(make_recipe(encoder_folder), data_root, tmp_path)
    claim_folder(make_recipe(encoder_folder, steps=99, remarks="longer"), data_root, tmp_path)
    with pytest.raises(RecipeError, match="belongs to a run with seed = 13, not 14"):
        claim_folder(make_recipe(encoder_folder, seed=14), data_root, tmp_path)
    with pytest.raises(RecipeError, match="data_root"):
        claim_folder(make_recipe(encoder_folder), tmp_path, tmp_path)
    passages = data_root / "mini" / "passages.jsonl"
    passages.write_text("".join(reversed(passages.read_text(encoding="utf-8").splitlines(keepends=True))))
    with pytest.raises(RecipeError, match=r"began with other data: .*passages\.jsonl has changed since"):
        claim_folder(make_recipe(encoder_folder), data_root, tmp_path)


def test_the_recipe_for_gpus_trains_without_one(bert_folder, data_root, tmp_path):
    path = Path(__file__).parents[2] / "training" / "recipes" / "rom-minilm-l6-gpu.yaml"
    full = load_recipe(path)
    reading, retrieval = full.task_options["reading"], full.task_options["retrieval"]
    draws = full.mixture.draws  # as many questions of either task in the long run
    assert draws["reading"] * reading.batch_size == draws["retrieval"] * retrieval.batch_size
    tasks = {name: {**options, "batch_size": 3, "data": "mini"} for name, options in full.tasks.items()}
    tasks["reading"] |= {"max_length": 48, "stride": 8, "max_query_length": 12}
    tasks["retrieval"] |= {"max_passage_length": 48}
    recipe = load_recipe(path, encoder=str(bert_folder), data="mini", steps=30, tasks=tasks)
    assert train(recipe, data_root, tmp_path / "run")
    logged = set().union(*metrics_of(tmp_path / "run"))
    assert {"reading/span_loss", "retrieval/live_contrast", "anchor/drift"} <= logged
