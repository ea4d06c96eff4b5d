"""`python -m training train` from the shell."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from rom_haystack.modeling import load_checkpoint
from training.__main__ import app
from training.data import stores
from training.data.formats import read_data

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(tmp_path, data_root, tiny_model, tiny_tokenizer) -> list[str]:
    """Arguments of a run that works."""
    encoder = tmp_path / "bert"
    copy.deepcopy(tiny_model.encoder).save_pretrained(encoder)
    tiny_tokenizer.save_pretrained(encoder)
    recipe = {
        "name": "tiny",
        "encoder": str(encoder),
        "data": "mini",
        "steps": 50,
        "bf16": False,
        "tasks": {"reading": {"batch_size": 2, "max_length": 64, "stride": 8}},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return ["train", str(path), "--data", str(data_root), "--output", str(tmp_path / "run")]


def test_trains_and_says_where_the_model_is(arguments, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--steps", "1"])
    assert result.exit_code == 0
    assert "Model written to" in result.output
    assert load_checkpoint(tmp_path / "run" / "model")[0].config.model_type == "rom"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [a[0], "none.yaml", *a[2:]], "Recipe none.yaml can't be read"),
        (lambda a: [*a, "--steps", "0"], "Recipe key 'steps' is 0"),
        (lambda a: [*a[:3], "nowhere", *a[4:]], "nowhere/mini: no such file or folder"),
        (lambda a: [*a, "--stop-after", "0"], "should be greater than or equal to 1"),
        (lambda a: [*a, "--encoder", "no/such-encoder"], "Recipe key 'encoder' is 'no/such-encoder'"),
    ],
    ids=["recipe", "steps", "data", "stop", "encoder"],
)
def test_mistakes_end_with_code_2_and_a_message(arguments, change, message):
    result = CliRunner().invoke(app, change(arguments))
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.replace("│", " ").split())


def test_from_the_shell_without_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "training", "train", "none.yaml", "--data", str(tmp_path), "--output", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "Recipe none.yaml can't be read" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


class TestConvert:
    @pytest.fixture
    def squad(self, tmp_path) -> Path:
        texts = ["Speke named the lake.", "The lake had a name before.", "Cheese is sold in wheels."]
        qa = {"id": "a", "question": "Who named the lake?", "answers": [{"text": "Speke", "answer_start": 0}]}
        impossible = {"id": "b", "question": "Who drained it?", "answers": [], "is_impossible": True}
        paragraphs = [{"context": text, "qas": []} for text in texts]
        paragraphs[0]["qas"] = [qa, impossible]
        path = tmp_path / "lake.train.json"
        path.write_text(json.dumps({"version": "2.0", "data": [{"title": "Lake", "paragraphs": paragraphs}]}))
        return path

    def test_from_squad_to_dpr_and_what_is_left_out(self, squad, tmp_path):
        output = tmp_path / "dpr.json"
        result = CliRunner().invoke(app, ["convert-data", str(squad), str(output), "--to", "dpr"])
        assert result.exit_code == 0, result.output
        (item,) = json.loads(output.read_text())
        assert item["dataset"] == "lake"
        assert [c["text"] for c in item["positive_ctxs"]] == ["Speke named the lake."]
        assert [c["text"] for c in item["hard_negative_ctxs"]] == ["The lake had a name before."]
        lines = result.output.splitlines()
        assert "Left out: 1 x unanswerable question" in lines
        assert "Left out: 1 x offset of an answer" in lines
        assert "Left out: 1 x passage that no question names" in lines
        assert "2 questions, 3 passages" in result.output

    @pytest.mark.parametrize(("count", "found"), [("0", 0), ("5", 2)])
    def test_number_of_hard_negatives(self, squad, tmp_path, count, found):
        output = tmp_path / "dpr.json"
        arguments = ["convert-data", str(squad), str(output), "--to", "dpr", "--hard-negatives", count]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert len(json.loads(output.read_text())[0]["hard_negative_ctxs"]) == found
        assert ("3 x hard negative, as too few passages" in result.output) == (found == 2)

    @pytest.mark.parametrize("large", [stores.LARGE, 0], ids=["in memory", "on disk"])
    def test_there_and_back(self, squad, tmp_path, monkeypatch, large):
        monkeypatch.setattr(stores, "LARGE", large)
        for step, kind in enumerate(("jsonl", "squad")):
            source = squad if step == 0 else tmp_path / "0"
            result = CliRunner().invoke(app, ["convert-data", str(source), str(tmp_path / str(step)), "--to", kind])
            assert result.exit_code == 0
            assert "Left out" not in result.output
        assert read_data(tmp_path / "1") == read_data(squad)
        assert not list(tmp_path.glob("read-*"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["none.json", "out"], "none.json: no such file or folder"),
            (["{squad}", "{squad}"], "exists already; choose another output"),
            (["{squad}", "out", "--to", "csv"], "'csv' is not one of"),
            (["{squad}", "out", "--hard-negatives", "-1"], "greater than or equal to 0"),
        ],
    )
    def test_mistakes(self, squad, arguments, message):
        filled = [argument.format(squad=squad) for argument in arguments]
        result = CliRunner().invoke(app, ["convert-data", "--to", "dpr", *filled])
        assert result.exit_code == 2
        assert message in " ".join(result.output.replace("│", "").split())

    @pytest.mark.parametrize("kind", ["squad", "dpr"])
    def test_trains_from_either_file(self, arguments, squad, data_root, tmp_path, kind):
        recipe = yaml.safe_load(Path(arguments[1]).read_text(encoding="utf-8"))
        recipe["tasks"]["retrieval"] = {"batch_size": 2}
        recipe["data"] = "train.json"
        Path(arguments[1]).write_text(yaml.safe_dump(recipe), encoding="utf-8")
        options = ["convert-data", str(squad), str(data_root / "train.json"), "--to", kind]
        assert CliRunner().invoke(app, options).exit_code == 0
        result = CliRunner().invoke(app, [*arguments, "--steps", "2"])
        assert result.exit_code == 0, result.output
        bank = load_file(tmp_path / "run" / "passage_bank.safetensors")["embeddings"]
        assert len(bank) == {"squad": 3, "dpr": 2}[kind]
