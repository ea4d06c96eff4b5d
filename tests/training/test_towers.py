"""Two towers: queries have an encoder of their own."""

from __future__ import annotations

import pytest
import torch

from rom_haystack.inference import ROMEncoder
from rom_haystack.modeling import load_checkpoint
from training.development import Development
from training.errors import RecipeError
from training.layers import layer_factors
from training.scoring import recall_scores
from training.starting import load_start
from training.tasks import RetrievalTask
from training.towers import add_query_tower, query_tower, take_query_tower
from training.trainer import train, train_model

RETRIEVAL = {"retrieval": {"batch_size": 3, "max_query_length": 16, "max_passage_length": 48}}


@pytest.fixture
def recipe(make_recipe, bert_folder):
    """A recipe of two towers."""
    return make_recipe(bert_folder, two_towers=True, tasks=RETRIEVAL, freeze_embeddings=True)


def test_towers_start_alike_and_part(recipe):
    model, _ = load_start(recipe)
    tower = query_tower(model)
    assert tower is not model
    for name, value in tower.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in tower.encoder.embeddings.parameters())
    assert take_query_tower(model) is tower
    assert query_tower(model) is model
    assert take_query_tower(model) is None
    assert not [name for name in model.state_dict() if name.startswith("query")]


def test_gradients_of_queries_reach_their_tower_only(recipe, make_task, tmp_path):
    model, _ = load_start(recipe)
    task = make_task(RetrievalTask, contrast="batch", anchor_weight=0.0)
    task.prepare(model, tmp_path)
    features = task.batch(0)
    shared, _ = task.loss(model, features)
    with torch.no_grad():
        for parameter in query_tower(model).encoder.encoder.parameters():
            parameter.mul_(1.5)
    loss, _ = task.loss(model, features)
    assert loss.item() != pytest.approx(shared.item())
    loss.backward()
    for part in (model.encoder, query_tower(model).encoder):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def test_a_run_writes_both_and_resumes_both(recipe, data_root, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(recipe, data_root, whole) == whole / "model"
    assert train(recipe, data_root, cut, stop_after=1) is None
    train(recipe, data_root, cut)
    states = {}
    for folder in ("model", "query_model"):
        first, second = (load_checkpoint(run / folder)[0].state_dict() for run in (whole, cut))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        states[folder] = first
    assert any(not torch.equal(value, states["query_model"][name]) for name, value in states["model"].items())


@pytest.mark.parametrize("bf16", [True, False])
def test_both_compute_in_the_recipes_precision(make_recipe, bert_folder, data_root, tmp_path, bf16):
    recipe = make_recipe(bert_folder, two_towers=True, tasks=RETRIEVAL, bf16=bf16)
    model, tokenizer = load_start(recipe)
    seen = []
    for tower in (model, query_tower(model)):
        first = next(module for module in tower.encoder.encoder.modules() if isinstance(module, torch.nn.Linear))
        first.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    run = tmp_path / "run"
    run.mkdir()
    train_model(model, tokenizer, recipe, data_root, run)
    bank = [torch.bfloat16]  # made before the first step, in bfloat16 whatever the recipe says
    assert seen == bank + [torch.bfloat16 if bf16 else torch.float32] * 2 * recipe.steps


def test_development_embeds_queries_by_their_tower(tiny_checkpoint, data_root):
    development = Development(data_root / "mini", limit=8, seed=1)
    model, tokenizer = load_checkpoint(tiny_checkpoint)
    add_query_tower(model)
    with torch.no_grad():
        for parameter in query_tower(model).parameters():
            parameter.mul_(-0.5)
    encoder = ROMEncoder.from_model(model, tokenizer)
    tower = ROMEncoder.from_model(query_tower(model), tokenizer)
    texts = [passage.text for passage in development.passages]
    scores = tower.encode_queries([q.text for q in development.questions]) @ encoder.encode_passages(texts).T
    found = development._ranking(encoder, tower)
    assert found[:, 0].tolist() == scores.argmax(axis=1).tolist()
    expected = recall_scores(development.questions, development.passages, found)["recall@1"].mean()
    assert development.measure(model, tokenizer)["development/recall@1"] == pytest.approx(expected, abs=1e-4)


def test_layers_of_both_towers_learn_alike(recipe):
    model, _ = load_start(recipe)
    factors = layer_factors(model, 0.5)
    tower = query_tower(model)
    assert set(factors) == set(model.parameters())
    for name, parameter in tower.named_parameters():
        assert factors[parameter] == factors[model.get_parameter(name)]
    assert factors[tower.encoder.embeddings.word_embeddings.weight] == 0.5**3


def test_reading_has_no_towers(make_recipe, bert_folder):
    with pytest.raises(RecipeError, match="'two_towers' is true, but task 'reading' trains the head 'reading'"):
        make_recipe(bert_folder, two_towers=True)
