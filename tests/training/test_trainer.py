"""Training runs, from recipe to loadable model, with every family of encoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering, DPRConfig, DPRQuestionEncoder

import training.trainer as trainer_module
from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import CheckpointError, ROMConfig, ROMModel, load_checkpoint, resolve_checkpoint
from rom_haystack.modeling.conversion.convert import convert
from rom_haystack.modeling.conversion.writing import write_checkpoint
from training.batches import in_steps
from training.checkpoints import last_checkpoint
from training.errors import DataError, RecipeError
from training.loop import ROMTrainer
from training.recipe import load_recipe
from training.runs import claim_folder
from training.schedules import SCHEDULES
from training.starting import rom_checkpoint, set_dropout, start_model
from training.trainer import build_tasks, train, training_arguments

RUNTIME = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def log_of(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in RUNTIME} for line in lines]


def weights_of(run):
    return load_file(run / "model" / "model.safetensors")


def dropping(config):
    """Set every dropout of a configuration high."""
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float) and "classifier" not in name:
            setattr(config, name, 0.5)
    return config


def test_a_run_makes_a_model_that_reads_and_retrieves(encoder_folder, make_recipe, data_root, tmp_path):
    run = tmp_path / "run"
    folder = train(make_recipe(encoder_folder), data_root, run)
    assert folder == run / "model"
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt"}
    encoder = ROMEncoder.from_model(*load_checkpoint(folder))
    assert encoder.encode_queries(["Who?"]).shape == (1, 32)
    options = ReadingOptions(max_seq_length=48, stride=8, max_query_length=8)
    assert encoder.read(["Who flew?"], ["Three people flew."], options)[0]
    logged = log_of(run)[0]
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


class TestFromCheckpoint:
    def test_weights_and_heads_are_kept(self, tiny_checkpoint, make_recipe):
        for attention in (None, "eager"):
            model = start_model(make_recipe(tiny_checkpoint, attention=attention))
            assert model.encoder.config._attn_implementation == (attention or "sdpa")
            expected = load_file(tiny_checkpoint / "model.safetensors")
            state = model.state_dict()
            assert state.keys() == expected.keys()
            assert all(torch.equal(state[name], expected[name]) for name in expected)

    def test_heads_that_the_tasks_need_are_added_and_others_left(
        self, tiny_model, tiny_tokenizer, make_recipe, tmp_path
    ):
        config = ROMConfig(encoder=tiny_model.config.encoder, heads={"retrieval": {"pooling": "cls"}})
        ROMModel(config).save_pretrained(tmp_path)
        tiny_tokenizer.save_pretrained(tmp_path)
        before = load_file(tmp_path / "model.safetensors")
        reading = {"reading": {"batch_size": 2}}
        models = [start_model(make_recipe(tmp_path, tasks=reading, seed=seed)) for seed in (1, 1, 2)]
        for model in models:
            assert model.config.heads == {"reading": {}, "retrieval": {"pooling": "cls"}}
            assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
        spans = [model.heads["reading"].span.weight for model in models]
        assert torch.equal(spans[0], spans[1])
        assert not torch.equal(spans[0], spans[2])
        alone = start_model(make_recipe(tmp_path, tasks={"retrieval": None}))
        assert list(alone.heads) == ["retrieval"]

    def test_the_recipe_may_choose_the_heads(self, tiny_checkpoint, make_recipe):
        heads = {"retrieval": {"pooling": "mean", "projection_dim": 8}, "reading": {}}
        model = start_model(make_recipe(tiny_checkpoint, heads=heads))
        before = load_file(tiny_checkpoint / "model.safetensors")
        assert model.retrieval_head.dim == 8
        assert model.config.heads == heads
        kept = {name: value for name, value in before.items() if not name.startswith("heads.retrieval")}
        assert all(torch.equal(model.state_dict()[name], value) for name, value in kept.items())

    def test_a_run_continues_with_it(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        folder = train(
            make_recipe(tiny_checkpoint, tasks={"retrieval": {"batch_size": 3}}), data_root, tmp_path / "run"
        )
        before, after = load_file(tiny_checkpoint / "model.safetensors"), weights_of(tmp_path / "run")
        assert before.keys() == after.keys()
        reader = [name for name in before if name.startswith("heads.reading")]
        assert reader
        assert all(torch.equal(before[name], after[name]) for name in reader)
        assert any(not torch.equal(before[name], after[name]) for name in before)
        assert load_checkpoint(folder)[0].config.heads == load_checkpoint(tiny_checkpoint)[0].config.heads

    def test_damage_is_named(self, make_recipe, data_root, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "rom", "format_version": 99}', encoding="utf-8")
        with pytest.raises(CheckpointError, match="format version 99"):
            train(make_recipe(tmp_path), data_root, tmp_path / "run")

    @pytest.mark.integration
    def test_bundled_name(self):
        folder = rom_checkpoint("rom-minilm-l6")
        assert folder == resolve_checkpoint("rom-minilm-l6")
        assert rom_checkpoint("no/such-encoder") is None


class TestOtherKinds:
    @pytest.fixture
    def dpr(self, tmp_path, tiny_tokenizer):
        config = DPRConfig(vocab_size=len(tiny_tokenizer), **TINY)
        return saved(DPRQuestionEncoder(config), tiny_tokenizer, tmp_path / "dpr")

    @pytest.fixture
    def reader(self, tmp_path, tiny_tokenizer):
        config = BertConfig(vocab_size=len(tiny_tokenizer), **TINY)
        return saved(BertForQuestionAnswering(config), tiny_tokenizer, tmp_path / "reader")

    @pytest.mark.parametrize(("kind", "name"), [("dpr", "a DPR model"), ("reader", "a question answering model")])
    def test_are_converted_first(self, request, make_recipe, data_root, tmp_path, kind, name):
        folder, run = request.getfixturevalue(kind), tmp_path / "run"
        with pytest.raises(RecipeError, match=f"'encoder' is '{folder}', {name}, .*`rom convert {folder} --output"):
            train(make_recipe(folder), data_root, run)
        write_checkpoint(convert(folder), tmp_path / "rom", sources=[kind])
        trained = train(make_recipe(tmp_path / "rom"), data_root, run)  # the remedy works, in the same run folder
        assert set(load_checkpoint(trained)[0].heads) == {"reading", "retrieval"}

    def test_on_the_hub(self, dpr, make_recipe, data_root, tmp_path, monkeypatch):
        commit = "0123456789" * 4
        repository = tmp_path / "hub" / "models--someone--dpr"
        shutil.copytree(dpr, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit, encoding="utf-8")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        with pytest.raises(RecipeError, match="'encoder' is 'someone/dpr', a DPR model"):
            train(make_recipe("someone/dpr"), data_root, tmp_path / "run")

    def test_sentence_transformers_and_other_heads_are_encoders(self, bert_folder, make_recipe):
        """They start with the weights of their encoders, and the same heads as any."""
        plain = start_model(make_recipe(bert_folder)).state_dict()
        config = json.loads((bert_folder / "config.json").read_text(encoding="utf-8"))
        for architecture, modules in (("BertForMaskedLM", False), ("BertForQuestionAnswering", True)):
            config["architectures"] = [architecture]
            (bert_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            if modules:
                (bert_folder / "modules.json").write_text("[]", encoding="utf-8")
            state = start_model(make_recipe(bert_folder)).state_dict()
            assert state.keys() == plain.keys()
            assert all(torch.equal(state[name], plain[name]) for name in plain)


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
    assert log_of(tmp_path / "run")[-1]["step"] == 6


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
    steps = [[e for e in log_of(tmp_path / name) if "loss" in e] for name in ("whole", "parts")]
    assert len(steps[0]) == 4
    assert steps[0] == steps[1]


def test_a_run_may_stop_early_and_be_continued(bert_folder, make_recipe, data_root, tmp_path):
    recipe = make_recipe(bert_folder, steps=3)
    train(recipe, data_root, tmp_path / "whole", stop_after=9)
    assert train(recipe, data_root, tmp_path / "parts", stop_after=1) is None
    assert not (tmp_path / "parts" / "model").exists()
    assert train(recipe, data_root, tmp_path / "parts") == tmp_path / "parts" / "model"
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


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


@pytest.mark.parametrize("attention", [None, "eager"])
def test_without_dropout_training_mode_is_deterministic(family, attention):
    config = dropping(family.config)
    torch.manual_seed(1)
    model = ROMModel(ROMConfig(encoder=config, attn_implementation=attention)).train()
    batch = family.tokenizer(["Who flew to the moon?", "Comets"], padding=True, return_tensors="pt")
    expected = attention or ("eager" if family.name == "mpnet" else "sdpa")
    assert model.encoder.config._attn_implementation == expected

    def run():
        with torch.no_grad():
            return model(**batch)["embedding"]

    assert not torch.equal(run(), run())
    set_dropout(model, 0.0)
    assert torch.equal(run(), run())
    trained = run()
    model.eval()
    torch.testing.assert_close(run(), trained, atol=1e-5, rtol=1e-5)
    model.train()
    set_dropout(model, 0.3)
    assert not torch.equal(run(), run())


def test_training_goes_on_from_a_rom_checkpoint(tiny_checkpoint, tiny_model, make_recipe, data_root, tmp_path):
    model = start_model(make_recipe(tiny_checkpoint, freeze_embeddings=False))
    expected = tiny_model.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    trained, _ = load_checkpoint(train(make_recipe(tiny_checkpoint), data_root, tmp_path / "run"))
    assert trained.config.encoder.model_type == "bert"
    change = trained.heads["reading"].span.weight - expected["heads.reading.span.weight"]
    assert 0 < change.abs().max() < 0.01  # two small steps


@pytest.mark.parametrize("attention", [None, "eager"])
def test_start_model_follows_the_recipe(family, encoder_folder, make_recipe, attention):
    model = start_model(make_recipe(encoder_folder, attention=attention))
    expected = attention or ("eager" if family.name == "mpnet" else "sdpa")
    assert model.encoder.config._attn_implementation == expected
    assert not any(p.requires_grad for p in model.get_input_embeddings().parameters())
    assert all(p.requires_grad for p in model.heads.parameters())
    thawed = start_model(make_recipe(encoder_folder, freeze_embeddings=False))
    assert all(p.requires_grad for p in thawed.parameters())


class TestMistakes:
    @pytest.mark.parametrize("encoder", ["no/such-encoder", "/no/such/folder"])
    def test_missing_encoder(self, make_recipe, data_root, tmp_path, encoder):
        with pytest.raises(RecipeError, match=f"'encoder' is '{encoder}', which can't be loaded"):
            train(make_recipe(encoder), data_root, tmp_path / "run")

    def test_unknown_head(self, bert_folder, make_recipe, data_root, tmp_path):
        with pytest.raises(CheckpointError, match="Unknown head 'summary'"):
            train(
                make_recipe(bert_folder, heads={"reading": {}, "retrieval": {}, "summary": {}}),
                data_root,
                tmp_path / "run",
            )

    def test_missing_data(self, bert_folder, make_recipe, data_root, tmp_path):
        with pytest.raises(DataError, match=r"no passages\.jsonl\.gz or passages\.jsonl there"):
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


def test_the_recipe_for_gpus_trains_without_one(bert_folder, data_root, tmp_path):
    path = Path(__file__).parents[2] / "training" / "recipes" / "rom-minilm-l6-gpu.yaml"
    full = load_recipe(path)
    reading, retrieval = full.task_options["reading"], full.task_options["retrieval"]
    draws = full.mixture.draws  # as many questions of either task in the long run
    assert draws["reading"] * reading.batch_size == draws["retrieval"] * retrieval.batch_size
    tasks = {name: {**options, "batch_size": 2} for name, options in full.tasks.items()}
    tasks["reading"] |= {"max_length": 48, "stride": 8, "max_query_length": 12}
    tasks["retrieval"] |= {"max_passage_length": 48}
    recipe = load_recipe(path, encoder=str(bert_folder), data="mini", steps=3, tasks=tasks)
    assert train(recipe, data_root, tmp_path / "run")
    assert log_of(tmp_path / "run")[0]["loss"] > 0
