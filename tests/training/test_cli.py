"""`python -m training train` from the shell."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rom_haystack.modeling import load_checkpoint
from training.__main__ import app

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
        (lambda a: [*a[:3], "nowhere", *a[4:]], "Is the --data folder right?"),
        (lambda a: [*a, "--encoder", "no/such-encoder"], "Recipe key 'encoder' is 'no/such-encoder'"),
    ],
    ids=["recipe", "steps", "data", "encoder"],
)
def test_mistakes_end_with_code_2_and_a_message(arguments, change, message):
    result = CliRunner().invoke(app, change(arguments))
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert message in " ".join(result.output.split())


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
