"""docs/training.md's way from a file of questions to a checkpoint that answers, taken as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from rom_haystack.cli import app as rom
from training.__main__ import app as training

GUIDE = Path(__file__).parents[2] / "docs" / "training.md"
FACTS = {
    "Radium": (
        "Radium was discovered by Marie and Pierre Curie in 1898.",
        "Who discovered radium?",
        "Marie and Pierre Curie",
    ),
    "Nile": ("John Speke reached Lake Victoria in 1858 and named it.", "Who reached Lake Victoria?", "John Speke"),
    "Moon": ("Michael Collins stayed in orbit in 1969.", "Who stayed in orbit?", "Michael Collins"),
    "Penicillin": ("Alexander Fleming found penicillin in London.", "Where was penicillin found?", "London"),
}


def squad(*titles: str) -> str:
    articles = []
    for title in titles:
        context, question, answer = FACTS[title]
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        qas = [{"id": title, "question": question, "answers": answers}]
        articles.append({"title": title, "paragraphs": [{"context": context, "qas": qas}]})
    return json.dumps({"data": articles})


def run(line: str) -> Result:
    words = shlex.split(line)
    if words[0] == "rom":
        return CliRunner().invoke(rom, words[1:])
    assert words[:3] == ["python", "-m", "training"]
    return CliRunner().invoke(training, words[3:])


@pytest.mark.integration
@pytest.mark.usefixtures("socket_disabled")
def test_from_questions_to_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {**os.environ, "ROM_HOME": str(tmp_path / "home"), "COLUMNS": "200"})
    text = GUIDE.read_text(encoding="utf-8")
    chapter = text[text.index("## Your questions, your checkpoint") : text.index("## Data")]
    (tmp_path / "my" / "data").mkdir(parents=True)
    (tmp_path / "my" / "data" / "train.json").write_text(squad("Radium", "Nile"))
    (tmp_path / "my" / "data" / "dev.json").write_text(squad("Moon", "Penicillin"))
    (recipe,) = re.findall(r"```yaml\n(.*?)\n *```", chapter, re.DOTALL)
    (tmp_path / "my" / "recipe.yaml").write_text(textwrap.dedent(recipe))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "nile.md").write_text(FACTS["Nile"][0])

    lines = [" ".join(found.split()) for found in re.findall(r"`((?:python -m training|rom ask) [^`]+)`", chapter)]
    train, convert, evaluate, calibrate, ask, curves = lines
    for line in (train, convert, evaluate, curves):
        result = run(line)
        assert result.exit_code == 0, result.output
    assert "reading EM" in run(evaluate).output
    refused = run(calibrate)  # as there are two questions, where some thousands are needed
    assert refused.exit_code == 2
    assert "Give more questions." in " ".join(refused.output.split())
    answered = run(ask.replace("…", "Who reached Lake Victoria?"))
    assert answered.exit_code == 0, answered.output
    assert "John Speke" in answered.output
