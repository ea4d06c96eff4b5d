"""`rom tune-hybrid`: weights for a folder or a pipeline file, and its mistakes."""

import json
import os

import pytest
from haystack import Pipeline, SuperComponent
from haystack.document_stores.in_memory import InMemoryDocumentStore
from typer.testing import CliRunner

from rom_haystack import ROMExtractiveQA, ROMHybridRetriever
from rom_haystack.cli import MISTAKE, NO_ANSWER, app
from rom_haystack.library import Library


class TestTuneHybrid:
    @pytest.fixture
    def questions(self, tmp_path):
        rows = [{"question": "What waits beside the river?", "answers": ["heron"]}, {"question": "Who?", "answers": []}]
        file = tmp_path / "questions.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        return file

    @pytest.fixture
    def pipeline(self, rom, docs, tiny_checkpoint, tmp_path):
        """A pipeline file with a hybrid retriever over the folder's index."""
        place = tmp_path / "index"
        rom("index", docs, "--index", place)
        with Library(docs, index=place, model=str(tiny_checkpoint)) as library:
            pipeline = Pipeline()
            pipeline.add_component("search", ROMHybridRetriever(library.store, model=str(tiny_checkpoint), top_k=3))
            file = tmp_path / "pipeline.yaml"
            file.write_text(pipeline.dumps())
        return file

    def test_a_folder_is_tuned_for_ask(self, rom, docs, questions):
        shown = rom("tune-hybrid", questions, "--docs", docs)
        assert shown.exit_code == 0
        assert "1 questions, 1 of them with an answer" in shown.stdout
        result = json.loads(rom("tune-hybrid", questions, "--docs", docs, "--json").stdout)
        assert result["join_mode"] == "z_score"
        assert sum(result["weights"]) == pytest.approx(1)
        assert f"--keyword-weight {result['weights'][0]}" in shown.stdout
        assert result["hybrid"]["mrr"] >= max(result["keyword"]["mrr"], result["dense"]["mrr"])
        asked = rom("ask", "Who?", "--docs", docs, "--keyword-weight", result["weights"][0])
        assert asked.exit_code in {0, NO_ANSWER}

    def test_the_weight_of_ask_reaches_the_search(self, rom, docs):
        def found(*options):
            return json.loads(rom("ask", "meadow", "--docs", docs, "--json", *options).stdout)["passages"]

        assert [passage["file_path"] for passage in found("--keyword-weight", 1)] == ["birds.md"]
        assert len(found("--keyword-weight", 0)) == len(found()) > 1
        assert rom("ask", "meadow", "--docs", docs, "--keyword-weight", 1.5).exit_code == MISTAKE

    def test_a_pipeline_is_written_with_the_numbers(self, rom, pipeline, questions, tmp_path):
        tuned = tmp_path / "tuned.yaml"
        os.environ.pop("HF_HUB_OFFLINE", None)
        shown = CliRunner().invoke(
            app, list(map(str, ["tune-hybrid", questions, "--pipeline", pipeline, "--output", tuned]))
        )
        assert "HF_HUB_OFFLINE" not in os.environ  # its model may be one of the hub's
        assert shown.exit_code == 0, shown.output
        before, after = (Pipeline.loads(file.read_text()).get_component("search") for file in (pipeline, tuned))
        assert after.weights is not None
        assert f"join_mode='{after.join_mode}', weights={after.weights}" in shown.stdout
        numbers = {"join_mode": before.join_mode, "weights": before.weights}
        assert after.to_dict()["init_parameters"] | numbers == before.to_dict()["init_parameters"]

    @pytest.mark.parametrize("kind", ["answering", "super-component"])
    def test_a_retriever_within_a_component_is_found(self, pipeline, questions, tmp_path, kind):
        loaded = Pipeline.loads(pipeline.read_text())
        if kind == "super-component":
            outer = SuperComponent(loaded)
        else:
            outer = ROMExtractiveQA(retriever=loaded.remove_component("search"), model="x")
        whole, file, tuned = Pipeline(), tmp_path / "whole.yaml", tmp_path / "tuned.yaml"
        whole.add_component("outer", outer)
        file.write_text(whole.dumps())
        shown = CliRunner().invoke(
            app, ["tune-hybrid", str(questions), "--pipeline", str(file), "--output", str(tuned)]
        )
        assert shown.exit_code == 0, shown.output
        after = Pipeline.loads(tuned.read_text()).get_component("outer")
        after = after.pipeline.get_component("search") if kind == "super-component" else after.retriever
        assert after.weights is not None
        assert f"join_mode='{after.join_mode}', weights={after.weights}" in shown.stdout

    def test_mistakes(self, docs, tiny_checkpoint, pipeline, questions, tmp_path):
        (tmp_path / "empty.yaml").write_text("components: {}\nconnections: []\n")
        (tmp_path / "broken.yaml").write_text("components: [")
        unnamed = tmp_path / "unnamed.yaml"
        made = Pipeline()
        made.add_component("qa", ROMExtractiveQA(InMemoryDocumentStore(shared=False)))
        unnamed.write_text(made.dumps())
        for options, message in (
            ([], "Give either --docs"),
            (["--docs", docs, "--pipeline", pipeline], "Give either --docs"),
            (["--docs", docs, "--output", "x.yaml"], "--output writes a pipeline"),
            (
                ["--pipeline", pipeline, "--model", tiny_checkpoint],
                "A pipeline names its own model and store; give --index",
            ),
            (["--pipeline", pipeline, "--index", tmp_path / "index"], "A pipeline names its own model and store"),
            (["--pipeline", unnamed], "ROMExtractiveQA takes one as retriever"),
            (["--pipeline", tmp_path / "empty.yaml"], "has 0 components of type ROMHybridRetriever"),
            (["--pipeline", tmp_path / "broken.yaml"], "can't be loaded as a pipeline"),
            (["--pipeline", tmp_path / "none.yaml"], "No such file"),
        ):
            result = CliRunner().invoke(app, list(map(str, ["tune-hybrid", questions, *options])))
            assert result.exit_code == MISTAKE
            assert message in result.stderr
