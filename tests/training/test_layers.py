"""Learning rates by layer."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, TrainingArguments

from rom_haystack.modeling import ROMConfig, ROMModel, load_checkpoint
from training.errors import RecipeError
from training.layers import layer_factors, split_rates
from training.loop import ROMTrainer
from training.trainer import train


def test_factors_of_every_family(family):
    model = ROMModel(ROMConfig(encoder=family.config))
    factors = layer_factors(model, 0.5)
    named = {name: factors[parameter] for name, parameter in model.named_parameters()}
    assert named.keys() == {name for name, _ in model.named_parameters()}
    assert {factor for name, factor in named.items() if name.startswith("heads.")} == {1.0}
    assert {factor for name, factor in named.items() if ".embeddings." in name} == {0.125}
    assert {factor for name, factor in named.items() if ".0." in name and not name.startswith("heads.")} == {0.25}
    assert {factor for name, factor in named.items() if ".1." in name and not name.startswith("heads.")} == {0.5}
    others = {name for name, factor in named.items() if factor == 1.0 and not name.startswith("heads.")}
    assert not any("layer." in name or "layers." in name for name in others)


def test_layers_that_share_their_weights_are_refused(tiny_tokenizer):
    config = AutoConfig.for_model(
        "albert",
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = ROMModel(ROMConfig(encoder=config))
    with pytest.raises(RecipeError, match="'layer_decay' can't be used with an encoder of type 'albert'"):
        layer_factors(model, 0.5)


def test_optimizer_has_the_rates_and_the_weight_decay_of_before(tiny_model, tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-2, weight_decay=0.1, use_cpu=True)
    plain, split = (
        ROMTrainer(model=tiny_model, args=arguments, tasks={}, layer_decay=decay).create_optimizer()
        for decay in (1.0, 0.5)
    )
    assert [group["lr"] for group in plain.param_groups] == [1e-2, 1e-2]
    factors = layer_factors(tiny_model, 0.5)
    before, after = (
        {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (plain, split)
    )
    assert after == before
    rates = {p: group["lr"] for group in split.param_groups for p in group["params"]}
    assert rates == {p: pytest.approx(1e-2 * factor) for p, factor in factors.items()}
    assert split.param_groups[0]["lr"] == 1e-2


def test_lower_layers_move_less(tiny_model):
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    split_rates(optimizer, dict(zip(weights, (0.5, 1.0), strict=True)))
    for weight in weights:
        weight.grad = torch.ones(2)
    optimizer.step()
    assert [weight[0].item() for weight in weights] == pytest.approx([0.95, 0.9])


class TestRuns:
    def moved(self, tiny_checkpoint, make_recipe, data_root, folder, **changes):
        recipe = make_recipe(tiny_checkpoint, weight_decay=0.0, freeze_embeddings=False, **changes)
        model, _ = load_checkpoint(train(recipe, data_root, folder))
        before, _ = load_checkpoint(tiny_checkpoint)
        moves = {}
        for part in ("embeddings", "encoder.layer.0", "encoder.layer.1"):
            pairs = zip(
                model.encoder.get_submodule(part).parameters(),
                before.encoder.get_submodule(part).parameters(),
                strict=True,
            )
            moves[part] = max((after - old).abs().max().item() for after, old in pairs)
        return list(moves.values())

    def test_recipe_key(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        steps = {"steps": 1, "warmup_ratio": 0.0}
        alike = self.moved(tiny_checkpoint, make_recipe, data_root, tmp_path / "alike", **steps)
        decayed = self.moved(tiny_checkpoint, make_recipe, data_root, tmp_path / "decayed", layer_decay=0.1, **steps)
        # AdamW's first step is the learning rate, whatever the gradient
        assert alike == pytest.approx([1e-3] * 3, rel=0.01)
        assert decayed == pytest.approx([1e-6, 1e-5, 1e-4], rel=0.05)
        lines = (tmp_path / "decayed" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rates = [json.loads(line)["learning_rate"] for line in lines if "learning_rate" in line]
        assert rates == pytest.approx([1e-3])

    def test_a_resumed_run_goes_on_with_its_rates(self, tiny_checkpoint, make_recipe, data_root, tmp_path):
        recipe = make_recipe(tiny_checkpoint, layer_decay=0.5, steps=4, checkpoint_every=2)
        whole = train(recipe, data_root, tmp_path / "whole")
        assert train(recipe, data_root, tmp_path / "halves", stop_after=2) is None
        halves = train(recipe, data_root, tmp_path / "halves")
        for one, other in zip(*(load_checkpoint(m)[0].parameters() for m in (whole, halves)), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("decay", [0.0, -1.0, 1.1])
    def test_limits(self, make_recipe, decay):
        with pytest.raises(RecipeError, match=r"'layer_decay' is .*; it must be above 0 and at most 1"):
            make_recipe("encoder", layer_decay=decay)
