"""Export folders: names, places, facts, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from rom_haystack.inference.export.folder import (
    EXPORT_VERSION,
    export_place,
    fingerprint,
    graph_path,
    has_graph,
    is_made_from,
    load_facts,
    load_tokenizer,
    weights_path,
    write_facts,
)
from rom_haystack.inference.facts import ModelFacts
from rom_haystack.modeling.errors import CheckpointError

FACTS = ModelFacts(
    embedding_dim=64,
    similarity="cosine",
    max_length=512,
    pad_token_id=0,
    separator=" [SEP] ",
    uses_token_types=True,
)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder with facts, and nothing else."""
    folder = tmp_path / "export"
    folder.mkdir()
    write_facts(folder, FACTS, source="abc")
    return folder


class TestGraphs:
    def test_every_graph_has_a_name_of_its_own(self):
        graphs = [graph_path(Path("x"), b, int8=i) for b in ("onnx", "openvino") for i in (False, True)]
        assert [graph.name for graph in graphs] == [
            "model.onnx",
            "model-int8.onnx",
            "openvino.xml",
            "openvino-int8.xml",
        ]
        assert [weights_path(graph).name for graph in graphs] == [
            "model.onnx.data",
            "model-int8.onnx.data",
            "openvino.bin",
            "openvino-int8.bin",
        ]

    @pytest.mark.parametrize("missing", ["facts.json", "tokenizer.json", "openvino.xml", "openvino.bin"])
    def test_a_graph_is_there_only_with_all_that_goes_with_it(self, tmp_path, missing):
        for name in ("facts.json", "tokenizer.json", "openvino.xml", "openvino.bin"):
            (tmp_path / name).touch()
        assert has_graph(tmp_path, "openvino", int8=False)
        assert not has_graph(tmp_path, "openvino", int8=True)
        assert not has_graph(tmp_path, "onnx", int8=False)
        (tmp_path / missing).unlink()
        assert not has_graph(tmp_path, "openvino", int8=False)


class TestPlace:
    def test_a_checkpoint_is_exported_into_the_cache(self, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setenv("ROM_HOME", str(tmp_path / "home"))
        place = export_place(checkpoint)
        assert place.parent == tmp_path / "home" / "exports"
        assert place.name.startswith("tiny-")
        assert export_place(checkpoint) == place
        assert not place.exists()

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "calibration.json"])
    def test_a_changed_checkpoint_has_another_place(self, checkpoint, name):
        before = export_place(checkpoint)
        with (checkpoint / name).open("ab") as file:
            file.write(b" ")
        assert export_place(checkpoint) != before

    def test_two_checkpoints_of_one_name_have_two_places(self, checkpoint, tmp_path):
        other = Path(shutil.copytree(checkpoint, tmp_path / "elsewhere" / "tiny"))
        assert export_place(other) != export_place(checkpoint)

    def test_a_folder_that_was_exported_into_is_its_own_place(self, export):
        assert export_place(export) == export


class TestFacts:
    def test_facts_come_back_as_they_were_written(self, export):
        assert load_facts(export) == FACTS

    def test_no_export_is_an_error_that_names_the_remedy(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"facts.json can't be read.*rom export"):
            load_facts(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "{}",
            json.dumps({"version": EXPORT_VERSION, "source": "abc"}),
            json.dumps({"version": EXPORT_VERSION, "source": "abc", "facts": []}),
            json.dumps({"version": EXPORT_VERSION, "source": "abc", "facts": {"max_length": 512}}),
            "\udcff",
        ],
    )
    def test_damaged_facts_are_an_error(self, export, content):
        (export / "facts.json").write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(CheckpointError, match=r"facts.json can't be read"):
            load_facts(export)

    def test_facts_of_earlier_exports_lack_what_came_later(self, export):
        record = json.loads((export / "facts.json").read_text())
        for name in ("has_null", "has_relevance"):
            del record["facts"][name]
        (export / "facts.json").write_text(json.dumps(record))
        assert load_facts(export) == FACTS

    @pytest.mark.parametrize("change", [{"has_null": 1}, {"has_humour": True}])
    def test_later_facts_are_checked_too(self, export, change):
        record = json.loads((export / "facts.json").read_text())
        record["facts"] |= change
        (export / "facts.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match=r"facts.json can't be read"):
            load_facts(export)

    def test_facts_of_a_wrong_type_are_an_error(self, export):
        record = json.loads((export / "facts.json").read_text())
        record["facts"]["max_length"] = "512"
        (export / "facts.json").write_text(json.dumps(record))
        with pytest.raises(CheckpointError, match="can't be read"):
            load_facts(export)

    def test_a_newer_version_is_refused(self, export):
        record = json.loads((export / "facts.json").read_text())
        (export / "facts.json").write_text(json.dumps({**record, "version": EXPORT_VERSION + 1}))
        with pytest.raises(CheckpointError, match=rf"version {EXPORT_VERSION + 1}.*up to {EXPORT_VERSION}.*Update"):
            load_facts(export)

    def test_graphs_of_other_weights_than_the_folder_holds_are_refused(self, checkpoint):
        write_facts(checkpoint, FACTS, source=fingerprint(checkpoint))
        assert load_facts(checkpoint) == FACTS
        weights = checkpoint / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
        with pytest.raises(CheckpointError, match="other weights"):
            load_facts(checkpoint)


class TestSource:
    def test_an_export_knows_its_checkpoint(self, checkpoint, tmp_path):
        export = tmp_path / "export"
        export.mkdir()
        write_facts(export, FACTS, source=fingerprint(checkpoint))
        assert is_made_from(export, fingerprint(checkpoint))
        assert not is_made_from(export, "another")
        assert not is_made_from(tmp_path, fingerprint(checkpoint))

    def test_a_copy_has_the_same_fingerprint_and_a_changed_one_another(self, checkpoint, tmp_path):
        copied = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
        assert fingerprint(copied) == fingerprint(checkpoint)
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps({**config, "changed": True}))
        assert fingerprint(copied) != fingerprint(checkpoint)

    def test_an_export_of_an_older_version_is_made_anew(self, export):
        record = json.loads((export / "facts.json").read_text())
        (export / "facts.json").write_text(json.dumps({**record, "version": EXPORT_VERSION - 1}))
        assert not is_made_from(export, "abc")


class TestTokenizer:
    def test_the_tokenizer_is_the_checkpoints(self, tiny_checkpoint):
        text = "Ada Lovelace was born in London."
        expected = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json")).encode(text)
        assert load_tokenizer(tiny_checkpoint).encode(text).ids == expected.ids

    @pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
    def test_a_missing_or_damaged_tokenizer_is_an_error(self, tmp_path, content):
        if content is not None:
            (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"tokenizer.json can't be read.*rom export"):
            load_tokenizer(tmp_path)


def test_export_folders_are_read_without_torch(export, tiny_checkpoint):
    shutil.copy(tiny_checkpoint / "tokenizer.json", export)
    script = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from pathlib import Path\n"
        "from rom_haystack.inference.export.folder import *\n"
        f"folder = Path({str(export)!r})\n"
        "print(load_facts(folder).max_length, load_tokenizer(folder).get_vocab_size(), export_place(folder) == folder)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["512", "800", "True"]
