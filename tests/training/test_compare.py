"""Grids from end to end on a tiny encoder: the table, going on, and variants that fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from demo.core.training_reports import find_reports
from rom_haystack.metrics import Figure
from training import compare as compare_module
from training.__main__ import app
from training.compare import compare
from training.comparison import Measured, SeedsFigure, compared, over_seeds
from training.errors import RecipeError, RunError
from training.grid import Grid, load_grid
from training.samples import Sample

TINY = Path(__file__).parents[2] / "training" / "recipes" / "grids" / "tiny.yaml"
BASE = TINY.parent.parent / "rom-minilm-l6.yaml"


@pytest.fixture
def write_grid(tmp_path):
    """Write the tiny grid with changes: `write_grid(**changes)`."""

    def write(**changes) -> Path:
        values = yaml.safe_load(TINY.read_text(encoding="utf-8"))
        path = tmp_path / "grid.yaml"
        path.write_text(yaml.safe_dump({**values, "base": str(BASE), **changes}, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(write_grid, bert_folder, data_root, tmp_path):
    """Run the tiny grid with changes: `run(**changes)`."""

    def start(**changes):
        return compare(*load_grid(write_grid(**changes), str(bert_folder)), data_root, tmp_path / "out")

    return start


@pytest.fixture
def trained(monkeypatch):
    """Names of the recipes that are trained, in order."""
    names = []
    train = compare_module.train

    def note(recipe, *args):
        names.append(f"{recipe.name}, seed {recipe.seed}")
        return train(recipe, *args)

    monkeypatch.setattr(compare_module, "train", note)
    return names


@pytest.fixture
def evaluated(monkeypatch):
    """Folders of the models that are measured, in order."""
    folders = []
    evaluate = compare_module.evaluate

    def note(models, *args):
        folders.append(models.reader)
        return evaluate(models, *args)

    monkeypatch.setattr(compare_module, "evaluate", note)
    return folders


def test_the_whole_grid_from_the_shell(bert_folder, data_root, tmp_path):
    output = tmp_path / "out"
    arguments = ["compare", str(TINY), "--data", str(data_root), "--output", str(output), "--encoder", str(bert_folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    names = ["shared, joint", "three separate encoders", "self-supervision first", "no anchor", "merged with the base"]
    assert list(report["systems"]) == [*names, "BM25 and the first variant", "BM25"]
    for name in names:
        figures = report["systems"][name]
        assert {"recall@1", "reading F1", "end-to-end EM", "end-to-end EM@1", "SQuAD 2.0 F1"} <= set(figures)
        assert all(set(figure) == {"mean", "low", "high", "spread"} for figure in figures.values())
    assert not [metric for metric in report["systems"]["BM25"] if "end-to-end" in metric]
    assert list(report["differences"]) == names[1:]
    sizes = report["settings"]["parameters"]
    assert sizes["three separate encoders"] == 3 * sizes["shared, joint"]  # each with heads
    assert report["failures"] == {}
    [shown] = find_reports(output)  # as the demo's page lists them
    assert list(shown.systems) == list(report["systems"])
    table = (output / "table.md").read_text(encoding="utf-8")
    assert f"| | {' | '.join(names)} |" in table
    assert "## Points above shared, joint" in table
    assert f"bootstrap intervals over articles ({report['settings']['article count']}; " in table


def test_each_separate_model_does_its_own_work(run, tmp_path):
    run(variants={"three": {"separate": True}}, seeds=[1])
    folder = tmp_path / "out" / "three" / "seed-1"
    settings = json.loads((folder / "report.json").read_text(encoding="utf-8"))["settings"]
    assert settings["model"] == str(folder / "reading" / "model")
    assert settings["passage encoder"] == str(folder / "retrieval" / "model")
    assert settings["query encoder"] == str(folder / "retrieval" / "query_model")


def test_what_is_finished_is_not_trained_again(run, trained, evaluated, tmp_path):
    variants = {"joint": {}, "no anchor": {"recipe": {"tasks": {"retrieval": {"anchor_weight": 0}}}}}
    first = run(variants=variants, seeds=[1])
    assert trained == ["joint, seed 1", "no anchor, seed 1"]
    assert run(variants=variants, seeds=[1]) == first
    assert len(trained) == len(evaluated) == 2
    more = run(variants={**variants, "alternating": {"recipe": {"schedule": "alternating"}}}, seeds=[1])
    assert trained[2:] == ["alternating, seed 1"]
    assert list(more.differences) == ["no anchor", "alternating"]
    evaluation = {"questions": "mini", "passages": ["mini"], "end_to_end_limit": 2, "systems": []}
    again = run(variants=variants, seeds=[1], evaluation=evaluation)  # other figures of the same models
    assert again.settings["end-to-end question count"] == 2
    assert len(trained) == 3
    with pytest.raises(RecipeError, match=r"recipes\.shared\.steps was 2, not 3"):
        run(variants={"no anchor": {"recipe": {"steps": 3, **variants["no anchor"]["recipe"]}}}, seeds=[1])


def test_a_merged_variant_is_another_ones_model(run, trained, evaluated, tmp_path):
    variants = {"joint": {}, "merged": {"merge": {"of": "joint", "base_share": 1.0}}}
    first = run(variants=variants, seeds=[1])
    assert trained == ["joint, seed 1"]
    folder = tmp_path / "out" / "merged" / "seed-1" / "merged"
    assert evaluated[1] == folder
    assert run(variants=variants, seeds=[1]) == first
    with pytest.raises(RecipeError, match=r"merge\.base_share was 1\.0, not 0\.5"):
        run(variants={"joint": {}, "merged": {"merge": {"of": "joint", "base_share": 0.5}}}, seeds=[1])


def test_what_was_measured_without_articles_is_measured_again(run, trained, tmp_path):
    variants = {"joint": {}}
    first = run(variants=variants, seeds=[1])
    folder = tmp_path / "out" / "joint" / "seed-1"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del report["settings"]["article count"]
    report["systems"]["rom"]["MRR"] = {"mean": 1.0, "low": 1.0, "high": 1.0}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with np.load(folder / "scores.npz") as arrays:
        values = {metric: array["value"] for metric, array in arrays.items()}
        assert set(arrays["MRR"]["article"]) == {"Nile", "Moon", "p6"}
    np.savez_compressed(folder / "scores.npz", **values)
    assert run(variants=variants, seeds=[1]) == first
    assert trained == ["joint, seed 1"]


def test_a_variant_that_fails_is_in_the_table_and_the_rest_goes_on(run, data_root, bert_folder, write_grid, tmp_path):
    variants = {"broken": {"recipe": {"data": "later"}}, "joint": {}}
    found = run(variants=variants, seeds=[1])
    assert "later" in found.failures["broken"][1]
    assert found.systems["joint"]["reading F1"].mean >= 0
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| | broken (failed) | joint |" in table
    assert "- broken, seed 1: DataError: " in table
    grid = str(write_grid(variants=variants, seeds=[1]))
    rest = ["--data", str(data_root), "--output", str(tmp_path / "out"), "--encoder", str(bert_folder)]
    assert CliRunner().invoke(app, ["compare", grid, *rest]).exit_code == 1
    (data_root / "later").symlink_to(data_root / "mini")
    whole = run(variants=variants, seeds=[1])
    assert not whole.failures
    assert list(whole.differences) == ["joint"]


def test_several_processes_are_refused(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="one process"):
        run()


def measured(values, area, articles=None):
    mean = 100 * float(np.mean(values))
    systems = {"rom": {"EM": Figure(mean, mean - 1, mean + 1), "AUROC": Figure(area, area - 2, area + 2)}}
    return Measured({"parameters": 3}, systems, {"EM": Sample(np.array(values), articles)})


def test_seeds_by_hand():
    seeds = [measured([1.0, 1.0, 0.0, 0.0], 80.0), measured([1.0, 1.0, 1.0, 1.0], 90.0)]
    found = over_seeds(seeds, seed=1)
    assert found["EM"].mean == 75
    assert found["EM"].low < 75 < found["EM"].high <= 100
    assert found["EM"].spread == pytest.approx(np.std([50, 100], ddof=1), abs=0.01)
    assert found["AUROC"] == SeedsFigure(85, 83, 87, 7.07)
    assert str(found["AUROC"]) == "85.0 ± 7.1 (83.0–87.0)"
    assert over_seeds(seeds[:1], seed=1) == seeds[0].systems["rom"]


def test_seeds_are_of_whole_articles():
    articles = np.array(["Nile", "Nile", "Nile", "Moon"])
    seeds = [measured([0.0, 0.0, 0.0, 1.0], 80.0, articles), measured([0.0, 0.0, 0.0, 1.0], 90.0, articles)]
    assert over_seeds(seeds, seed=1)["EM"] == SeedsFigure(25, 0, 100, 0)
    grid = Grid("g", "base.yaml", {"a": {}, "b": {}}, seeds=[1])
    found = compared(grid, {"a": {1: measured([0.0] * 4, 1, articles)}, "b": {1: seeds[0]}}, {})
    assert found.differences["b"]["EM"] == Figure(25, 0, 100)


def test_differences_are_from_the_variant_that_is_named():
    grid = Grid("g", "base.yaml", {"a": {}, "b": {}}, compared_with="b", seeds=[1])
    found = compared(grid, {"a": {1: measured([1.0], 1)}, "b": {1: measured([0.0], 1)}}, {})
    assert found.differences == {"a": {"EM": Figure(100, 100, 100)}}
    assert found.settings["reference"] == "b"
    assert "## Points above b, " in found.markdown()


def test_differences_are_of_seeds_that_both_have():
    grid = Grid("g", "base.yaml", {"a": {}, "b": {}}, seeds=[1, 2])
    low, high = [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]
    found = compared(grid, {"a": {1: measured(low, 1), 2: measured(high, 1)}, "b": {2: measured(high, 1)}}, {})
    assert found.differences["b"]["EM"] == Figure(0, 0, 0)
    assert found.settings["seeds finished"] == {"a": [1, 2], "b": [2]}


def test_variants_yet_to_come_have_no_column():
    grid = Grid("g", "base.yaml", {"a": {}, "b": {}, "c": {}}, seeds=[1])
    found = compared(grid, {"a": {1: measured([1.0], 1)}, "b": {}, "c": {}}, {"b": {1: "no data"}})
    assert "| | a | b (failed) |\n" in found.markdown()
