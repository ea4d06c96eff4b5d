"""Grids: what is trained for each variant, and mistakes that are found before."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.errors import RecipeError
from training.grid import READING, RETRIEVAL, SHARED, load_grid, merged

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.fixture
def write_grid(tmp_path):
    """Write a grid over the bundled checkpoint's recipe: `write_grid(**changes)`."""

    def write(**changes) -> Path:
        path = tmp_path / "grid.yaml"
        values = {"name": "g", "base": str(RECIPES / "rom-minilm-l6.yaml"), "variants": {"joint": {}}, **changes}
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return path

    return write


def test_mappings_merge_key_by_key_and_null_takes_out():
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": None}
    changes = {"b": {"c": None, "d": {"g": 4}}, "f": {"h": 5}, "i": [6]}
    assert merged(base, changes) == {"a": 1, "b": {"d": {"e": 3, "g": 4}}, "f": {"h": 5}, "i": [6]}
    assert base == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": None}


def test_variants_change_the_common_recipe_seed_by_seed(write_grid):
    variants = {
        "joint": None,
        "no anchor": {"recipe": {"steps": 7, "tasks": {"retrieval": {"anchor_weight": 0}, "reading": None}}},
    }
    grid, trainings = load_grid(write_grid(recipe={"steps": 5}, seeds=[3, 4], variants=variants), encoder="other")
    assert [(t.variant, t.seed) for t in trainings] == [("joint", 3), ("no anchor", 3), ("joint", 4), ("no anchor", 4)]
    assert (grid.first, grid.reference) == ("joint", "joint")
    joint, anchorless = (t.recipes[SHARED] for t in trainings[2:])
    assert (joint.name, joint.seed, joint.steps, joint.encoder) == ("joint", 4, 5, "other")
    assert joint.task_options["retrieval"].anchor_weight == 5
    assert (anchorless.steps, list(anchorless.tasks)) == (7, ["retrieval"])
    assert anchorless.task_options["retrieval"].anchor_weight == 0
    assert anchorless.task_options["retrieval"].batch_size == 12  # the base's


def test_other_seeds_may_be_given(write_grid):
    grid, trainings = load_grid(write_grid(seeds=[3]), seeds=[5, 6])
    assert grid.seeds == [5, 6]
    assert {training.recipes[SHARED].seed for training in trainings} == {5, 6}
    assert load_grid(write_grid(seeds=[3]), seeds=[])[0].seeds == [3]


def test_another_variant_than_the_first_may_be_compared_with(write_grid):
    variants = {"joint": {}, "longer": {"recipe": {"steps": 7}}}
    grid, _ = load_grid(write_grid(variants=variants, compared_with="longer"))
    assert (grid.first, grid.reference) == ("joint", "longer")
    with pytest.raises(RecipeError, match=r"'compared_with' is 'loner'; it must be one of joint, longer"):
        load_grid(write_grid(variants=variants, compared_with="loner"))


def test_another_encoder_is_the_untuned_base_too(write_grid):
    path = write_grid(evaluation={"base": "some-encoder", "limit": 3})
    assert load_grid(path)[0].options.base == "some-encoder"
    grid, _ = load_grid(path, encoder="other")
    assert (grid.options.base, grid.options.limit) == ("other", 3)
    assert load_grid(write_grid(), encoder="other")[0].options.base is None


def test_separate_encoders_share_out_the_tasks(write_grid):
    changes = {"tasks": {"inverse_cloze": {}, "masked_lm": {}}}
    _, (joint, separate) = load_grid(
        write_grid(recipe=changes, variants={"joint": {}, "three": {"separate": True, "recipe": {"steps": 9}}})
    )
    assert list(joint.recipes) == [SHARED]
    reading, retrieval = separate.recipes[READING], separate.recipes[RETRIEVAL]
    assert (list(reading.tasks), reading.two_towers) == (["reading", "masked_lm"], False)
    assert (list(retrieval.tasks), retrieval.two_towers) == (["retrieval", "inverse_cloze"], True)
    assert reading.steps == retrieval.steps == 9
    assert retrieval.task_options["retrieval"] == joint.recipes[SHARED].task_options["retrieval"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": {}}, r"Grid .*: Recipe key 'variant' is unknown. Did you mean 'variants'\?"),
        ({"variants": {}}, "'variants' is {}; it must be a mapping with at least one variant"),
        ({"variants": {"a/b": {}}}, "'variants.a/b' names a folder"),
        (
            {"variants": {"a": {}, "b": {"merge": {"of": "c", "base_share": 0.1}}}},
            "'merge.of' is 'c'; it must be",
        ),
        ({"variants": {"a": {"merge": {"of": "a", "base_share": 0.1}}}}, "'merge.of' is 'a'"),
        (
            {"variants": {"a": {}, "b": {"merge": {"of": "a", "base_share": 0}}}},
            "'merge.base_share' is 0",
        ),
        ({"variants": {"a": {"separate": True, "merge": {}}}}, "'merge' is {}; it must be alone"),
        ({"variants": {"a": {"recip": {}}}}, r"variant 'a': Recipe key 'recip' is unknown. Did you mean 'recipe'\?"),
        ({"variants": {"a": {"recipe": {"steps": 0}}}}, "variant 'a': Recipe key 'steps' is 0"),
        ({"variants": {"a": {"recipe": {"tasks": {"reeding": {}}}}}}, "'tasks.reeding' is no known task"),
        ({"variants": {"a": {"separate": True, "recipe": {"schedule": "alternating"}}}}, "it must be 'joint'"),
        ({"variants": {"a": {"separate": True, "recipe": {"tasks": {"reading": None}}}}}, "no tasks for both"),
        ({"seeds": [1, 1]}, "'seeds' is .* different seeds"),
        ({"evaluation": {"limit": 0}}, "'evaluation.limit' is 0; it must be at least 1"),
        ({"evaluation": {"systems": ["bm26"]}}, "'evaluation.systems' is .* some of hybrid, untuned base, bm25"),
        ({"base": "none.yaml"}, "none.yaml can't be read"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(write_grid, changes, message):
    with pytest.raises(RecipeError, match=message):
        load_grid(write_grid(**changes))


@pytest.mark.parametrize("path", sorted((RECIPES / "grids").glob("*.yaml")), ids=lambda path: path.stem)
def test_grids_that_come_along_are_valid(path):
    grid, trainings = load_grid(path)
    assert len(trainings) == len(grid.variants) * len(grid.seeds)
    separate = {name for name, variant in grid.variants.items() if variant.get("separate")}
    assert {training.variant for training in trainings if READING in training.recipes} == separate
