"""Models of other kinds by their name: converted once, into the cache, and found there from then on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from transformers import DPRQuestionEncoder

from rom_haystack import check_store_similarity
from rom_haystack.components import ROMDocumentEmbedder, ROMExtractiveReader, ROMTextEmbedder
from rom_haystack.inference import converted
from rom_haystack.inference.announcing import preparation
from rom_haystack.inference.converted import find_checkpoint, find_source
from rom_haystack.modeling import DEFAULT_CHECKPOINT, CheckpointError, bundled_checkpoints
from rom_haystack.modeling.conversion.sources import recognise, split_part

CPU = ComponentDevice.from_str("cpu")
DOCUMENTS = [
    Document(content="Marie Curie found radium in 1898.", meta={"title": "Radium"}),
    Document(content="The Nile flows north. Its delta lies in Egypt.", meta={"title": "Nile"}),
    Document(content="Mount Everest stands 8849 metres high.", meta={"title": "Everest"}),
]


class TestARetrieverAndAReaderOfThreeEncoders:
    """What a user of DPR has, and puts into a pipeline first."""

    @pytest.fixture
    def parts(self, dpr_question, dpr_passage, dpr_reader):
        parts = {
            "text_embedder": ROMTextEmbedder(model=str(dpr_question), device=CPU),
            "document_embedder": ROMDocumentEmbedder(
                model=str(dpr_passage),
                device=CPU,
                max_seq_length=100,
                meta_fields_to_embed=["title"],
                progress_bar=False,
            ),
            "reader": ROMExtractiveReader(
                model=str(dpr_reader), device=CPU, max_seq_length=100, stride=10, no_answer=False, top_k=2
            ),
        }
        yield parts
        for part in parts.values():
            part.close()

    def test_retrieves_and_reads(self, parts):
        store = InMemoryDocumentStore(embedding_similarity_function="dot_product")
        documents = parts["document_embedder"].run(DOCUMENTS)["documents"]
        store.write_documents(documents)
        pipeline = Pipeline()
        pipeline.add_component("embedder", parts["text_embedder"])
        pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2, scale_score=False))
        pipeline.add_component("reader", parts["reader"])
        pipeline.connect("embedder.embedding", "retriever.query_embedding")
        pipeline.connect("retriever.documents", "reader.documents")
        question = "Where does the Nile flow?"
        pipeline = Pipeline.loads(pipeline.dumps())  # as from YAML
        pipeline.get_component("retriever").document_store.write_documents(documents, policy="skip")
        found = pipeline.run(
            {"embedder": {"text": question}, "reader": {"query": question}}, include_outputs_from={"retriever"}
        )
        vector = torch.tensor(parts["text_embedder"].run(question)["embedding"])
        scores = {document.id: float(vector @ torch.tensor(document.embedding)) for document in documents}
        ranked = sorted(scores, key=lambda name: -scores[name])[:2]
        assert [document.id for document in found["retriever"]["documents"]] == ranked
        answers = found["reader"]["answers"]
        assert len(answers) == 2
        for answer in answers:
            assert answer.document.content[answer.document_offset.start : answer.document_offset.end] == answer.data

    def test_nothing_is_shared(self, parts):
        for part in parts.values():
            part.warm_up()
        assert len({id(part._encoder) for part in parts.values()}) == 3

    def test_two_users_of_one_share_it(self, parts, dpr_question):
        other = ROMTextEmbedder(model=str(dpr_question), device=CPU)
        other.warm_up()
        parts["text_embedder"].warm_up()
        assert other._encoder is parts["text_embedder"]._encoder
        other.close()


class TestOnce:
    @pytest.fixture
    def folder(self, dpr_question, tmp_path) -> Path:
        return Path(shutil.copytree(dpr_question, tmp_path / "copy"))

    @pytest.fixture
    def conversions(self, monkeypatch):
        """Names of what is converted."""
        done = []
        monkeypatch.setattr(preparation, "info", lambda _, name: done.append(name))
        return done

    def test_converted_once(self, folder, conversions, home):
        found = find_checkpoint(folder)
        assert found.parent == home / "converted"
        assert find_checkpoint(str(folder)) == found
        assert conversions == [str(folder)]
        assert sorted(path.suffix for path in found.parent.iterdir()) == ["", ".lock"]

    def test_a_check_of_a_store_converts_too(self, folder, conversions):
        for _ in range(2):
            assert check_store_similarity(InMemoryDocumentStore(), str(folder)).fits
        assert conversions == [str(folder)]

    def test_what_has_changed_is_converted_anew(self, folder, conversions):
        found = find_checkpoint(folder)
        os.utime(folder / "model.safetensors", (1, 1))
        changed = find_checkpoint(folder)
        assert changed != found
        assert len(conversions) == 2

    def test_parts_have_places_of_their_own(self, monkeypatch, tmp_path):
        file = tmp_path / "x.cp"
        file.touch()
        assert converted._place(file, "question") != converted._place(file, "passage")

    def test_the_tokenizer_beside_a_file_counts(self, tmp_path):
        file = tmp_path / "x.cp"
        file.touch()
        before = converted._place(file, None)
        (tmp_path / "other.txt").touch()
        assert converted._place(file, None) == before
        (tmp_path / "vocab.txt").touch()
        assert converted._place(file, None) != before

    def test_a_conversion_that_fails_leaves_nothing(self, folder, home):
        (folder / "model.safetensors").write_bytes(b"nonsense")
        with pytest.raises(CheckpointError, match="can't be loaded"):
            find_checkpoint(folder)
        assert [path.suffix for path in (home / "converted").iterdir()] == [".lock"]

    def test_a_cache_that_can_not_be_written(self, folder, home, tmp_path):
        home.write_text("a file")
        with pytest.raises(CheckpointError, match=r"can't be converted in .*converted .*Set ROM_HOME to a writable"):
            find_checkpoint(folder)

    def test_checkpoints_stay_where_they_are(self, tiny_checkpoint, conversions):
        assert find_checkpoint(tiny_checkpoint) == tiny_checkpoint
        assert find_checkpoint(DEFAULT_CHECKPOINT) == bundled_checkpoints()[DEFAULT_CHECKPOINT]
        assert conversions == []

    def test_checkpoints_have_no_parts(self, tiny_checkpoint):
        with pytest.raises(CheckpointError, match="a ROM checkpoint, which has no part 'question'"):
            find_checkpoint(f"{tiny_checkpoint}:question")

    def test_modules_below_a_folder_count(self, tmp_path):
        """But no other models below it, such as a training's."""
        (tmp_path / "1_Pooling").mkdir()
        plain = converted._place(tmp_path, None)
        (tmp_path / "1_Pooling" / "config.json").touch()
        assert converted._place(tmp_path, None) == plain
        (tmp_path / "modules.json").touch()
        before = converted._place(tmp_path, None)
        (tmp_path / "1_Pooling" / "config.json").write_text("{}")
        assert converted._place(tmp_path, None) != before

    def test_other_models_are_named(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
        with pytest.raises(CheckpointError, match=r"model type 'bert'.*`rom convert`"):
            find_checkpoint(tmp_path)


class TestHub:
    @pytest.fixture
    def cached(self, dpr_question, tmp_path, monkeypatch):
        """The hub's cache with a DPR model in it: its snapshot's folder."""
        commit = "0123456789" * 4
        repository = tmp_path / "hub" / "models--someone--dpr"
        shutil.copytree(dpr_question, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit, encoding="utf-8")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        return repository / "snapshots" / commit

    def test_a_cached_id(self, cached, home):
        assert find_checkpoint("someone/dpr").parent == home / "converted"
        assert find_checkpoint("someone/dpr", revision=cached.name) == find_checkpoint("someone/dpr")
        assert ROMTextEmbedder(model="someone/dpr", device=CPU).run("x")["embedding"]

    def test_cached_weights_of_old(self, cached):
        model = DPRQuestionEncoder.from_pretrained(cached)
        (cached / "model.safetensors").unlink()
        torch.save(model.state_dict(), cached / "pytorch_model.bin")
        assert (find_checkpoint("someone/dpr", local_files_only=True) / "model.safetensors").is_file()

    @pytest.fixture
    def hub(self, tmp_path, monkeypatch):
        """A hub with one model's files, which are empty unless they have content: returns what is fetched of it."""

        def make(files) -> list[str]:
            cache, fetched = tmp_path / "snapshot", []

            def download(name, *, local_files_only=False, allow_patterns, **options):
                assert options == {"revision": None, "token": "secret"}
                if not local_files_only:
                    for file in filter_repo_objects(files, allow_patterns=allow_patterns):
                        if not (cache / file).exists():
                            fetched.append(file)
                            (cache / file).parent.mkdir(parents=True, exist_ok=True)
                            (cache / file).write_text(files[file], encoding="utf-8")
                if not cache.is_dir():
                    raise LocalEntryNotFoundError("not cached")
                return str(cache)

            monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
            return fetched

        return make

    def find(self):
        find_source("someone/model", token="secret")

    def test_fetched_is_what_a_conversion_reads(self, hub):
        files = {
            "README.md": "",
            "config.json": '{"model_type": "bert", "architectures": ["BertModel"]}',
            "modules.json": modules(Transformer="", Pooling="1_Pooling", Dense="2_Dense"),
            "1_Pooling/config.json": "{}",
            "2_Dense/config.json": "{}",
            "2_Dense/pytorch_model.bin": "",
            "model.safetensors": "",
            "onnx/model.onnx": "",
            "onnx/model.safetensors": "",
            "openvino/openvino_model.bin": "",
            "openvino/openvino_model.xml": "",
            "pytorch_model.bin": "",
            "tokenizer.json": "{}",
            "vocab.txt": "",
        }
        fetched = hub(files)
        self.find()
        unread = {name for name in files if name.startswith(("README", "onnx/", "openvino/", "pytorch_model"))}
        assert sorted(fetched) == sorted(files.keys() - unread)
        self.find()
        assert len(fetched) == len(files.keys() - unread)

    @pytest.mark.parametrize("place", ["", "0_Transformer"])
    def test_weights_of_old_where_there_are_no_others(self, hub, place):
        below = f"{place}/" if place else ""
        files = {"modules.json": modules(Transformer=place, Pooling="1_Pooling"), f"{below}config.json": "{}"}
        files |= {f"{below}pytorch_model.bin": "", "checkpoint-5/pytorch_model.bin": ""}
        fetched = hub(files)
        self.find()
        assert fetched == list(files)[:-1]

    def test_weights_of_old_are_for_models_of_other_kinds_only(self, hub):
        fetched = hub({"config.json": '{"model_type": "rom"}', "model.safetensors": "", "pytorch_model.bin": ""})
        self.find()
        assert fetched == ["config.json", "model.safetensors"]

    def test_of_unknown_models_nothing_but_the_settings(self, hub):
        fetched = hub({"config.json": '{"architectures": ["LlamaForCausalLM"]}', "model.safetensors": ""})
        self.find()
        assert fetched == ["config.json"]

    def test_no_weights_at_all(self, hub):
        hub({"config.json": '{"model_type": "dpr"}', "tf_model.h5": ""})
        with pytest.raises(CheckpointError, match="copy of 'someone/model' in the cache has no weights, and the hub"):
            self.find()

    def test_what_the_cache_has_not(self, cached):
        (cached / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="copy of 'someone/dpr' in the cache has no weights, and the hub"):
            find_checkpoint("someone/dpr")  # HF_HUB_OFFLINE=1

    def test_nothing_local_asks_the_hub(self, dpr_question, no_hub):
        token = Secret.from_env_var("NO_SUCH_TOKEN", strict=True)
        embedder = ROMTextEmbedder(model=str(dpr_question), device=CPU, token=token)
        assert embedder.run("x")["embedding"]
        embedder.close()

    def test_the_error_of_a_missing_id_is_the_usual_one(self, monkeypatch):
        def download(*args, **options):
            raise LocalEntryNotFoundError("not cached")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        with pytest.raises(CheckpointError, match="No checkpoint 'nobody/nothing': not bundled"):
            find_checkpoint("nobody/nothing")


def modules(**paths) -> str:
    """The modules.json of a sentence-transformers model: where each module lies."""
    return json.dumps([{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in paths.items()])


@pytest.mark.parametrize(
    ("model", "split"),
    [
        ("a.cp", ("a.cp", None)),
        ("a.cp:question", ("a.cp", "question")),
        ("C:\\models\\a.cp:passage", ("C:\\models\\a.cp", "passage")),
        ("C:\\models\\a.cp", ("C:\\models\\a.cp", None)),
        ("a.cp:ctx", ("a.cp:ctx", None)),
        (":question", (":question", None)),
        ("someone/question", ("someone/question", None)),
    ],
)
def test_parts(model, split):
    assert split_part(model) == split


def test_kinds(dpr_question, squad_reader, tiny_checkpoint, tmp_path):
    assert recognise(dpr_question) == "dpr"
    assert recognise(squad_reader) == "reader"
    assert recognise(tiny_checkpoint) is None
    assert recognise(tmp_path) is None
    assert recognise(tiny_checkpoint / "config.json") is None
    (tmp_path / "config.json").write_text("[]")
    assert recognise(tmp_path) is None
    (tmp_path / "modules.json").write_text("[]")
    assert recognise(tmp_path) == "sentence-transformers"


def test_a_converted_model_is_found_without_torch(dpr_question):
    """Once it is converted, and exported, torch need not be there."""
    found = find_checkpoint(dpr_question)
    code = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from rom_haystack.inference.converted import find_checkpoint
print(find_checkpoint(sys.argv[1]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(dpr_question)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(found), "")
