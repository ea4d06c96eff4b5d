"""Recipes are checked before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from training.errors import RecipeError
from training.recipe import Recipe, load_recipe
from training.schedules import SCHEDULES, STAGED, Mixture, Stage
from training.tasks.reading import ReadingTaskOptions
from training.tasks.retrieval import RetrievalTaskOptions

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))
VALID = {"name": "a", "encoder": "b", "data": "c", "steps": 10, "tasks": {"reading": {}, "retrieval": None}}

BOTH = {"reading": 1, "retrieval": "5e-1"}


def write(folder: Path, values) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


def test_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path, VALID))
    assert recipe == Recipe(name="a", encoder="b", data="c", steps=10, tasks={"reading": {}, "retrieval": None})
    assert recipe.task_options == {"reading": ReadingTaskOptions(), "retrieval": RetrievalTaskOptions()}
    assert (recipe.schedule, recipe.seed, recipe.heads) == ("joint", 13, None)


def test_task_options_are_read(tmp_path):
    tasks = {"reading": {"weight": 2, "batch_size": 7, "negative_rate": 0.5}}
    recipe = load_recipe(write(tmp_path, {**VALID, "tasks": tasks}))
    assert recipe.task_options == {"reading": ReadingTaskOptions(weight=2.0, batch_size=7, negative_rate=0.5)}


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("2", 2.0), ("1.5e-4", 1.5e-4), ("'0.5'", 0.5)])
def test_numbers_as_yaml_writes_them(tmp_path, text, value):
    recipe = load_recipe(write(tmp_path, yaml.safe_dump(VALID) + f"learning_rate: {text}\n"))
    assert recipe.learning_rate == value
    assert type(recipe.learning_rate) is float


def test_schedules_take_weights_rates_and_stages(tmp_path):
    tasks = {"reading": {"weight": 2, "sampling_rate": 3}, "retrieval": None}
    stages = [{"weights": {"retrieval": 1}, "share": "1e-1"}, {"weights": BOTH}]
    recipe = load_recipe(write(tmp_path, {**VALID, "tasks": tasks, "schedule": "sequential", "stages": stages}))
    parts = [Stage({"retrieval": 1.0}, 0.1), Stage({"reading": 1.0, "retrieval": 0.5}, 1.0)]
    assert recipe.mixture == Mixture({"reading": 2.0, "retrieval": 1.0}, {"reading": 3.0}, parts)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_another_schedule_is_one_word(tmp_path, schedule):
    stages = [{"weights": {"reading": 1}}, {"weights": BOTH}]
    for values in (VALID, {**VALID, "stages": stages}) if schedule in STAGED else (VALID,):
        recipe = load_recipe(write(tmp_path, {**values, "schedule": schedule}))
        assert len(SCHEDULES[recipe.schedule](recipe.mixture, recipe.steps, recipe.seed)) == recipe.steps


def test_overrides_replace_what_is_given(tmp_path):
    recipe = load_recipe(write(tmp_path, VALID), steps=3, encoder=None)
    assert (recipe.steps, recipe.encoder) == (3, "b")


def test_epochs_instead_of_steps(tmp_path):
    path = write(tmp_path, {**{key: value for key, value in VALID.items() if key != "steps"}, "epochs": 2})
    assert (load_recipe(path).epochs, load_recipe(path).steps) == (2, 0)
    overridden = load_recipe(path, steps=5)
    assert (overridden.epochs, overridden.steps) == (None, 5)


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_released_recipes_are_valid(path):
    name = re.sub("-(continued|hardened)$", "", path.stem)  # which go on with a model of that name
    assert load_recipe(path).name == name


def test_released_recipes_of_one_model_differ_by_a_word():
    texts = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in RECIPES}
    lines = [texts[f"rom-minilm-l6-{schedule}"] for schedule in ("sequential", "annealed")]
    differing = [pair for pair in zip(*lines, strict=True) if pair[0] != pair[1]]
    assert differing == [
        ("name: rom-minilm-l6-sequential", "name: rom-minilm-l6-annealed"),
        ("schedule: sequential", "schedule: annealed"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 1}, r"'learning_rat' is unknown. Did you mean 'learning_rate'\?"),
        ({"xyz": 1}, "'xyz' is unknown. Known keys: name, encoder, data"),
        ({"task_options": {}}, "'task_options' is unknown"),
        (
            {"tasks": {"reading": {"negativ_rate": 1}}},
            r"'tasks.reading.negativ_rate' .* mean 'tasks.reading.negative_rate'",
        ),
        ({"tasks": {"summary": {}}}, "'tasks.summary' is no known task; choose from reading, retrieval"),
        ({"tasks": {}}, "'tasks' is empty"),
        ({"tasks": ["reading"]}, r"'tasks' must be a mapping, found \['reading'\]"),
        ({"tasks": {"reading": 3}}, "'tasks.reading' must be a mapping, found 3"),
        ({"tasks": {"reading": {"batch_size": 0}}}, "'tasks.reading.batch_size' is 0; it must be at least 1"),
        ({"tasks": {"reading": {"weight": 0}}}, "'tasks.reading.weight' is 0.0; it must be above 0"),
        ({"tasks": {"reading": {"batch_size": 2.5}}}, "'tasks.reading.batch_size' must be of type int, found 2.5"),
        ({"tasks": {"reading": {"sampling_rate": 0}}}, "'tasks.reading.sampling_rate' is 0.0; it must be above 0"),
        ({"tasks": {"reading": {"negative_rate": 2}}}, "'tasks.reading.negative_rate' is 2.0; it must be from 0 to 1"),
        ({"data": []}, "'data' is empty; name a folder or file below --data"),
        ({"data": 5}, "'data' must be of type str, found 5"),
        ({"data": ["a", 5]}, "'data.1' must be of type str, found 5"),
        (
            {"tasks": {"reading": {"data": []}}},
            r"'tasks.reading.data' is \[\]; it must be a folder or file below --data",
        ),
        ({"tasks": {"reading": {"data": 3}}}, "'tasks.reading.data' must be of type str, found 3"),
        (
            {"tasks": {"retrieval": {"contrast": "all"}}},
            "'tasks.retrieval.contrast' is 'all'; it must be one of bank, b",
        ),
        ({"tasks": {"retrieval": {"chunk_size": 0}}}, "'tasks.retrieval.chunk_size' is 0; it must be at least 1"),
        ({"tasks": {"retrieval": {"positives": 0}}}, "'tasks.retrieval.positives' is 0; it must be at least 1"),
        ({"tasks": {"retrieval": {"hard_negatives": -1}}}, "'tasks.retrieval.hard_negatives' is -1; it must be at lea"),
        ({"tasks": {"retrieval": {"temperature": 0}}}, "'tasks.retrieval.temperature' is 0.0; it must be above 0"),
        (
            {"tasks": {"masked_lm": {"mask_rate": 0}}},
            "'tasks.masked_lm.mask_rate' is 0.0; it must be above 0 and below",
        ),
        ({"tasks": {"masked_lm": {"max_length": 3}}}, "'tasks.masked_lm.max_length' is 3; it must be at least 4"),
        (
            {"tasks": {"inverse_cloze": {"kept_rate": 2}}},
            "'tasks.inverse_cloze.kept_rate' is 2.0; it must be from 0 to",
        ),
        (
            {"tasks": {"masked_lm": {}}, "heads": {"reading": {}}},
            "'heads' lacks 'masked_lm', which task 'masked_lm' trai",
        ),
        ({"stages": {"reading": 1}}, r"'stages' must be a list, found \{'reading': 1\}"),
        ({"stages": []}, "'stages' has no stage that trains task 'reading'"),
        ({"stages": ["reading"]}, "'stages.0' must be a mapping, found 'reading'"),
        ({"stages": [{"weights": BOTH}, {"share": 1}]}, "'stages.1.weights' is missing"),
        (
            {"stages": [{"weights": BOTH}, {"weights": {}}]},
            "'stages.1.weights' is {}; it must be a weight for at least",
        ),
        ({"stages": [{"weights": BOTH, "shar": 1}]}, r"'stages.0.shar' is unknown. Did you mean 'stages.0.share'\?"),
        ({"stages": [{"weights": BOTH, "share": 0}]}, "'stages.0.share' is 0.0; it must be above 0"),
        ({"stages": [{"weights": {**BOTH, "reading": -1}}]}, "'stages.0.weights.reading' is -1.0; it must be above 0"),
        ({"stages": [{"weights": {"reading": "x"}}]}, "'stages.0.weights.reading' must be a number, found 'x'"),
        (
            {"stages": [{"weights": BOTH}, {"weights": {"qa": 1}}]},
            "'stages.1.weights.qa' is no task of this recipe; cho",
        ),
        ({"stages": [{"weights": {"reading": 1}}]}, "'stages' has no stage that trains task 'retrieval'"),
        ({"stages": [{"weights": BOTH}]}, "'stages' is given, but the schedule 'joint' knows none; leave it out, or"),
        ({"workers": -1}, "'workers' is -1; it must be at least 0"),
        ({"heads": "mean"}, "'heads' must be a mapping, found 'mean'"),
        ({"schedule": "sometimes"}, "'schedule' is 'sometimes'; choose from joint, alternating"),
        ({"steps": 0}, "'steps' is 0 or missing; it must be at least 1, unless 'epochs' is given"),
        ({"steps": -1}, "'steps' is -1; it must be at least 1"),
        ({"epochs": 0, "steps": 0}, "'epochs' is 0; it must be at least 1"),
        ({"epochs": 1}, "Recipe keys 'steps' and 'epochs' both say how long to train"),
        ({"warmup_steps": -1}, "'warmup_steps' is -1; it must be at least 0"),
        ({"warmup_steps": 0.1}, "'warmup_steps' must be of type int, found 0.1"),
        (
            {"tasks": {"reading": {"max_length": 64, "stride": 20}}},
            r"'tasks.reading.stride' is 20; it must be at least 0 and below 12",
        ),
        ({"steps": True}, "'steps' must be of type int, found True"),
        ({"steps": "many"}, "'steps' must be of type int, found 'many'"),
        ({"steps": None}, "'steps' must be of type int, found None"),
        ({"checkpoint_every": 0}, "'checkpoint_every' is 0"),
        ({"learning_rate": 0}, "'learning_rate' is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan; it must be finite"),
        ({"learning_rate": float("inf")}, "'learning_rate' is inf; it must be finite"),
        ({"gradient_accumulation": 0}, "'gradient_accumulation' is 0; it must be at least 1"),
        ({"log_every": 0}, "'log_every' is 0; it must be at least 1"),
        ({"evaluate_every": 0}, "'evaluate_every' is 0; it must be at least 1"),
        ({"development_questions": 0}, "'development_questions' is 0; it must be at least 1"),
        ({"development": "d", "patience": 0}, "'patience' is 0; it must be at least 1"),
        ({"patience": 3}, "'patience' is 3, but there is nothing to watch; name 'development' data"),
        ({"metric": "f1"}, "'metric' is 'f1'; choose from EM, F1, recall@1, recall@5, recall@20"),
        ({"seed": -1}, "'seed' is -1; it must be from 0 to 4294967295"),
        ({"warmup_ratio": 1.5}, "'warmup_ratio' is 1.5; it must be from 0 to 1"),
        ({"dropout": 1}, "'dropout' is 1.0; it must be from 0 to 0.99"),
        ({"weight_decay": -0.1}, "'weight_decay' is -0.1; it must be from 0"),
        ({"max_grad_norm": -1}, "'max_grad_norm' is -1.0; it must be at least 0. 0 clips nothing"),
        ({"learning_rate": "fast"}, "'learning_rate' must be a number, found 'fast'"),
        ({"learning_rate": True}, "'learning_rate' must be of type float, found True"),
        ({"bf16": "yes please"}, "'bf16' must be of type bool, found 'yes please'"),
        ({"name": 5}, "'name' must be of type str, found 5"),
        ({"tasks": {"reading": {"weight": float("inf")}}}, "'tasks.reading.weight' is inf; it must be finite"),
        ({"attention": "leen"}, "'attention' is 'leen'; choose from eager, .*lean, sdpa"),
        ({"attention": "kernels-community/any"}, "'attention' is 'kernels-community/any'; choose from"),
        ({"heads": {"retrieval": 3}}, "'heads.retrieval' must be a mapping, found 3"),
        ({"heads": {"retrieval": []}}, r"'heads.retrieval' must be a mapping, found \[\]"),
        ({"heads": {"summary": {}}}, "'heads.summary' can't be used: Unknown head 'summary'"),
        ({"heads": {"retrieval": {"pooling": "max"}}}, "'heads.retrieval' can't be used: Unknown pooling 'max'"),
        ({"heads": {"retrieval": {"projection_dim": -1}}}, "'heads.retrieval' can't be used: Width -1 of the retr"),
        ({"heads": {"retrieval": {"pool": "cls"}}}, "'heads.retrieval' can't be used: .* does not take the options"),
        ({3: 4}, "'3' is unknown"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=f"Recipe key {message}" if message[0] == "'" else message) as error:
        load_recipe(write(tmp_path, {**VALID, **changes}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", VALID)
def test_missing_keys_are_named(tmp_path, key):
    with pytest.raises(RecipeError, match=f"Recipe key '{key}' is (0 or )?missing"):
        load_recipe(write(tmp_path, {name: value for name, value in VALID.items() if name != key}))


@pytest.mark.parametrize(
    ("content", "message"),
    [("tasks: [", "is not valid YAML"), ("- a\n- b", "must be a mapping of keys to values"), ("", "must be a mapping")],
)
def test_what_is_no_mapping(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)


def test_files_that_can_not_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    for path, message in (("none.yaml", "can't be read"), (".", "can't be read"), ("binary.yaml", "not valid YAML")):
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / path)


def test_tensorboard_must_be_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("training.limits.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="'tensorboard' is true, but TensorBoard is not installed"):
        load_recipe(write(tmp_path, {**VALID, "tensorboard": True}))
    monkeypatch.setattr("training.limits.importlib.util.find_spec", lambda name: name == "tensorboardX" or None)
    assert load_recipe(write(tmp_path, {**VALID, "tensorboard": True})).tensorboard
