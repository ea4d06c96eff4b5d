"""Every family of encoders trains, by nothing but its name in the recipe, and every schedule trains every task."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rom_haystack.inference import ReadingOptions, ROMEncoder
from rom_haystack.modeling import load_checkpoint
from training.errors import RecipeError
from training.schedules import SCHEDULES
from training.tasks import TASKS
from training.trainer import train

PAIRS = {"batch_size": 2, "max_length": 48, "stride": 8, "max_query_length": 20}
VECTORS = {"batch_size": 3, "max_query_length": 16, "max_passage_length": 32}
ALL = {
    "reading": PAIRS,
    "retrieval": {**VECTORS, "contrast": "batch", "chunk_size": 2},
    "masked_lm": {"batch_size": 2, "max_length": 32, "data": "texts"},
    "inverse_cloze": {**VECTORS, "data": "texts/notes.txt"},
    "recurring_spans": {**PAIRS, "data": "texts"},
    "anchor": {"batch_size": 4, "data": "texts"},
    "reader_distillation": PAIRS,
    "span_distillation": PAIRS,
}


def logged(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


def test_a_family_trains_saves_loads_reads_and_embeds(encoder_folder, make_recipe, data_root, tmp_path):
    tasks = {name: ALL[name] for name in ("retrieval", "reading", "masked_lm")}
    recipe = make_recipe(encoder_folder, tasks=tasks, steps=3, freeze_embeddings=False)
    folder = train(recipe, data_root, tmp_path / "run")
    model, tokenizer = load_checkpoint(folder)
    assert model.config.heads.keys() == {"retrieval", "reading", "masked_lm"}
    before = load_file(encoder_folder / "model.safetensors")
    after = {name.removeprefix("encoder."): weight for name, weight in model.state_dict().items()}
    assert sum(not torch.equal(weight, after[name]) for name, weight in before.items() if name in after) > 10
    metrics = logged(tmp_path / "run")
    for metric in ("retrieval/live_contrast", "reading/span_loss", "masked_lm/token_loss"):
        assert 0 < metrics[metric] < 100
    encoder = ROMEncoder.from_model(model, tokenizer)
    vectors = encoder.encode_queries(["Who flew?", "Which river?"])
    assert vectors.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    options = ReadingOptions(max_seq_length=48, stride=8, max_query_length=8)
    assert encoder.read(["Who flew?"], ["Three people flew."], options)[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_trains_every_task(tiny_checkpoint, make_recipe, data_root, tmp_path, schedule):
    assert ALL.keys() == TASKS.keys()
    tasks = {**ALL, "span_distillation": {**PAIRS, "teacher": str(tiny_checkpoint)}}
    recipe = make_recipe(tiny_checkpoint, tasks=tasks, schedule=schedule, steps=24, seed=4)
    model, _ = load_checkpoint(train(recipe, data_root, tmp_path / "run"))
    assert model.config.heads.keys() == {"retrieval", "reading", "masked_lm"}
    assert {metric.partition("/")[0] for metric in logged(tmp_path / "run") if "/" in metric} == TASKS.keys()


def test_stages_are_followed(tiny_checkpoint, make_recipe, data_root, tmp_path):
    """A task whose stage has not come yet leaves its head as it is."""
    stages = [{"weights": {"masked_lm": 1}, "share": 3}, {"weights": {"reading": 1, "retrieval": 1}}]
    tasks = {name: ALL[name] for name in ("retrieval", "reading", "masked_lm")}
    recipe = make_recipe(tiny_checkpoint, tasks=tasks, schedule="sequential", stages=stages, steps=4)
    before = load_file(tiny_checkpoint / "model.safetensors")
    name = "heads.reading.span.weight"
    train(recipe, data_root, tmp_path / "run", stop_after=3)
    assert torch.equal(load_file(tmp_path / "run" / "checkpoint-3" / "model.safetensors")[name], before[name])
    train(recipe, data_root, tmp_path / "run")
    assert not torch.equal(load_file(tmp_path / "run" / "model" / "model.safetensors")[name], before[name])


def test_a_stage_without_a_step_is_found_before_the_run_begins(tiny_checkpoint, make_recipe, data_root, tmp_path):
    stages = [{"weights": {"reading": 1}, "share": 1}, {"weights": {"reading": 1, "retrieval": 1}, "share": 9}]
    recipe = make_recipe(tiny_checkpoint, schedule="sequential", stages=stages, steps=4)
    with pytest.raises(RecipeError, match=r"'steps' is 4, of which stage 1 of 'sequential' \(reading\) gets none"):
        train(recipe, data_root, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
