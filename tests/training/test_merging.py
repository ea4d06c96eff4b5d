"""Merging a trained model with the encoder that it was trained from."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner

from rom_haystack.modeling import ROMModel, load_checkpoint
from training.__main__ import app
from training.merging import merge
from training.starting import rom_checkpoint


@pytest.fixture
def trained(tiny_model, tiny_tokenizer, tmp_path):
    """Folder of a model whose every weight has moved."""
    model = copy.deepcopy(tiny_model)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    folder = tmp_path / "trained"
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def states(folder):
    model, _ = load_checkpoint(folder)
    return dict(model.encoder.state_dict()), dict(model.heads.state_dict())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("base", ["bert_folder", "tiny_checkpoint"], ids=["plain encoder", "ROM checkpoint"])
def test_encoders_are_interpolated_and_heads_kept(trained, tiny_model, tmp_path, request, base, share):
    merge(trained, str(request.getfixturevalue(base)), share, tmp_path / "merged")
    (encoder, heads), (before, heads_before) = states(tmp_path / "merged"), states(trained)
    for name, weight in tiny_model.encoder.named_parameters():
        torch.testing.assert_close(encoder[name], (1 - share) * before[name] + share * weight, msg=name)
    assert heads.keys() == heads_before.keys()
    assert all(torch.equal(heads[name], weight) for name, weight in heads_before.items())
    assert not list(tmp_path.glob("*.partial"))


def test_every_family(family, encoder_folder, tmp_path):
    model = ROMModel.from_encoder(str(encoder_folder))
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(1.0)
    model.save_pretrained(tmp_path / "model")
    family.tokenizer.save_pretrained(tmp_path / "model")
    merge(tmp_path / "model", str(encoder_folder), 0.5, tmp_path / "merged")
    base, (encoder, _) = ROMModel.from_encoder(str(encoder_folder)), states(tmp_path / "merged")
    for name, weight in base.encoder.named_parameters():
        torch.testing.assert_close(encoder[name], weight + 0.5)


class TestCommand:
    def merge(self, *arguments):
        return CliRunner().invoke(app, ["merge", *map(str, arguments)])

    def test_writes_a_checkpoint(self, trained, bert_folder, tmp_path):
        result = self.merge(trained, bert_folder, "--share", "0.4", "--output", tmp_path / "merged")
        assert result.exit_code == 0, result.output
        assert "Merged model written to" in result.output
        assert rom_checkpoint(str(tmp_path / "merged"))

    def test_other_architectures_and_vocabularies_are_refused(
        self, trained, tiny_model, tiny_tokenizer, byte_tokenizer, tmp_path
    ):
        config = copy.deepcopy(tiny_model.config.encoder)
        config.num_hidden_layers = 1
        AutoModel.from_config(config).save_pretrained(tmp_path / "shallow")
        tiny_tokenizer.save_pretrained(tmp_path / "shallow")
        result = self.merge(trained, tmp_path / "shallow", "--output", tmp_path / "merged")
        assert result.exit_code == 2
        assert "weight 'encoder.layer.1." in result.output
        assert "missing in the base" in result.output
        byte_tokenizer.save_pretrained(tmp_path / "shallow")
        result = self.merge(trained, tmp_path / "shallow", "--output", tmp_path / "merged")
        assert "has another vocabulary" in result.output
        assert not (tmp_path / "merged").exists()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model": "nowhere"}, "nowhere"),
            ({"base": "no/such"}, "The base 'no/such' can't be loaded"),
            ({"share": "1.5"}, "less than or equal to 1"),
            ({"output": "trained"}, "exists already"),
        ],
    )
    def test_mistakes(self, trained, bert_folder, tmp_path, changes, message, no_hub):
        values = {"model": trained, "base": bert_folder, "share": "0.5", "output": "merged", **changes}
        result = self.merge(
            values["model"], values["base"], "--share", values["share"], "--output", tmp_path / values["output"]
        )
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", "").split())
