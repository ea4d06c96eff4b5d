"""The steps from Haystack 1.x, run as they stand in the guide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent / "from_haystack_1.md"
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Radium was discovered by Marie and Pierre Curie in 1898.",
                    "qas": [
                        {"question": "When was radium discovered?", "answers": [{"text": "1898", "answer_start": 51}]}
                    ],
                }
            ]
        }
    ]
}


@pytest.mark.integration
@pytest.mark.usefixtures("socket_disabled")
def test_every_step_runs(tmp_path, monkeypatch, capsys, warnings_of):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dev.json").write_text(json.dumps(SQUAD))
    monkeypatch.chdir(tmp_path)
    steps = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(steps) == 5
    names: dict[str, object] = {}
    outputs = []
    for step in steps:
        exec(compile(step, GUIDE.name, "exec"), names)
        outputs.append(capsys.readouterr().out)
    assert "Query: Who discovered radium?" in outputs[0]
    assert re.search(r"^Marie and Pierre Curie 0\.\d+ Radium 25$", outputs[0], re.MULTILINE)
    assert outputs[3] == "100.0 100.0 100.0\n"
    assert outputs[4] == "Marie and Pierre Curie\n"
    assert [text for text in warnings_of() if "no effect" in text] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "my_documents", "my_retriever"]
