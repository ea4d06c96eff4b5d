"""The model that a run starts with: from encoders, ROM checkpoints and other kinds of models."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForQuestionAnswering, DPRConfig, DPRQuestionEncoder

from rom_haystack.modeling import CheckpointError, ROMConfig, ROMModel, load_checkpoint, resolve_checkpoint
from rom_haystack.modeling.conversion.convert import convert
from rom_haystack.modeling.conversion.writing import write_checkpoint
from training.errors import RecipeError
from training.starting import rom_checkpoint, set_dropout, start_model
from training.trainer import train

from .conftest import weights_of

TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def dropping(config):
    """Set every dropout of a configuration high."""
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float) and "classifier" not in name:
            setattr(config, name, 0.5)
    return config


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
