"""`rom export`: into a folder, into the cache, and its mistakes."""

import json
import sys

import pytest
from typer.testing import CliRunner

from rom_haystack.cli import MISTAKE, NO_ANSWER, app
from rom_haystack.inference.loading import default_dtype


class TestExport:
    @pytest.fixture
    def questions(self, tmp_path):
        folder = tmp_path / "asked"
        folder.mkdir()
        (folder / "a.md").write_text("The kestrel hovers high above the meadow.\n\nThe heron waits beside the river.\n")
        (folder / "b.md").write_text("The owl hunts at night.\n")
        rows = [("a.md", "What hovers?", "The kestrel"), ("b.md", "When does the owl hunt?", "at night")]
        table = folder / "questions.tsv"
        table.write_text("\n".join("\t".join(row) for row in [("file", "question", "answer"), *rows]))
        return table

    def test_into_a_folder_that_is_a_model_then(self, tiny_checkpoint, tmp_path, questions, docs):
        place = tmp_path / "exported"
        arguments = ["export", str(tiny_checkpoint), "--output", str(place), "--questions", str(questions), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        fidelity = report["fidelity"]
        assert report["graph"] == str(place / "openvino.xml")
        assert report["bytes"] == sum((place / name).stat().st_size for name in ("openvino.xml", "openvino.bin"))
        assert report["engine"] == f"openvino-{default_dtype('openvino')}"
        assert (report["reference"], report["questions"], report["passages"]) == ("torch-float32", 2, 3)
        assert fidelity["cosine_min"] > 0.99
        assert fidelity["speedup"] == fidelity["tokens_per_second"] / fidelity["reference_tokens_per_second"]
        assert fidelity["f1_change"] == fidelity["f1"] - fidelity["reference_f1"]
        assert report["faithful"] is (fidelity["cosine_mean"] >= 0.999 and fidelity["span_agreement"] >= 0.98)
        assert not list(place.glob("*.safetensors"))
        asked = CliRunner().invoke(
            app, ["ask", "What hunts?", "--docs", str(docs), "--model", str(place), "--json"], env={"ROM_BACKEND": ""}
        )
        assert asked.exit_code in {0, NO_ANSWER}
        assert asked.stderr == ""

    def test_into_the_cache_for_people(self, tiny_checkpoint, questions, home):
        result = CliRunner().invoke(
            app, ["export", str(tiny_checkpoint), "--backend", "onnx", "--questions", str(questions)]
        )
        assert result.exit_code == 0
        (graph,) = home.glob("exports/*/model.onnx")
        rows = {line[:15].strip(): line[15:] for line in result.stdout.splitlines()}
        assert rows["Graph"].startswith(str(graph))
        assert rows["Engine"] == "onnx-float32, compared with torch-float32 on 2 questions about 3 passages"
        assert rows["Embeddings"].startswith("cosine 1.00000 on average, 1.00000 at least; 100.0% of")
        assert rows["Answers"].startswith("100.0% are the same; exact match")
        assert "(+0.0 points), F1" in rows["Answers"]
        assert rows["Faithful"] == "yes"

    def test_mistakes(self, tiny_checkpoint, tmp_path, questions, monkeypatch):
        def export(*arguments):
            return CliRunner().invoke(app, ["export", str(tiny_checkpoint), *map(str, arguments)])

        (tmp_path / "file").write_text("")
        questions.with_name("one.tsv").write_text("file\tquestion\tanswer\na.md\tWhat?\tThe heron\n")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        for message, result in {
            "missing.tsv can't be read": export("--questions", tmp_path / "missing.tsv"),
            "pip install 'rom-haystack[onnx]'": export("--backend", "onnx", "--questions", questions),
            "asks about a single file": export("--int8", "--questions", questions.with_name("one.tsv")),
            "'~nosuchuser/x'": export("--output", "~nosuchuser/x"),
            "file": export("--output", tmp_path / "file", "--questions", questions),
        }.items():
            assert result.exit_code == MISTAKE, message
            assert message in result.stderr.splitlines()[-1]
            assert len(result.stderr.splitlines()) <= 2  # before it, perhaps, what was begun
            assert result.stdout == ""
