"""One model in memory, freed by its last user; who asks the hub; which device."""

from __future__ import annotations

import copy
import gc
import weakref

import huggingface_hub
import pytest
import torch
from haystack import Document
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret
from huggingface_hub.errors import LocalEntryNotFoundError

from rom_haystack.components import (
    ROMDocumentEmbedder,
    ROMExtractiveReader,
    ROMRanker,
    ROMRetriever,
    ROMTextEmbedder,
)
from rom_haystack.inference import REGISTRY
from rom_haystack.modeling import CheckpointError

CPU = ComponentDevice.from_str("cpu")


def test_all_components_hold_one_model_and_the_last_close_frees_it(fresh_checkpoint):
    model = str(fresh_checkpoint)
    text, documents = ROMTextEmbedder(model=model, device=CPU), ROMDocumentEmbedder(model=model, device=CPU)
    reader = ROMExtractiveReader(model=model, device=CPU, model_kwargs={"device_map": "cpu"})
    ranker = ROMRanker(model=model, device=CPU)
    store = InMemoryDocumentStore()
    retriever = ROMRetriever(
        retriever=InMemoryEmbeddingRetriever(store), text_embedder=ROMTextEmbedder(model=model, device=CPU)
    )
    users = [text, documents, reader, ranker, retriever]
    for user in users:
        user.warm_up()
        user.warm_up()  # takes no second share
    holders = [text, documents, reader, ranker, retriever.text_embedder]
    assert all(holder._encoder is text._encoder for holder in holders)
    weights = {p.data_ptr(): p.numel() for holder in holders for p in holder._encoder.backend.model.parameters()}
    assert sum(weights.values()) == text._encoder.backend.model.parameter_counts()["total"]
    spec = text._spec(device="cpu")
    assert REGISTRY.users(spec) == 5

    store.write_documents(documents.run([Document(content="The Nile flows north.")])["documents"])
    assert reader.run("Where?", ranker.run("Where?", retriever.run("Where?")["documents"])["documents"])["answers"]

    freed = weakref.ref(text._encoder.backend.model)
    for left, user in zip((4, 3, 2, 1), users, strict=False):
        user.close()
        user.close()  # gives no second share back
        assert REGISTRY.users(spec) == left
    gc.collect()
    assert freed() is not None
    retriever.close()
    gc.collect()
    assert freed() is None
    assert REGISTRY.users(spec) == 0


@pytest.mark.parametrize("cls", [ROMTextEmbedder, ROMDocumentEmbedder, ROMExtractiveReader, ROMRanker])
def test_closed_components_work_again(cls, tiny_checkpoint):
    part = cls(model=str(tiny_checkpoint), device=CPU)
    part.close()  # before any warm-up
    part.warm_up()
    part.close()
    part.warm_up()
    assert part._encoder is not None
    part.close()


@pytest.mark.parametrize("cls", [ROMTextEmbedder, ROMDocumentEmbedder, ROMExtractiveReader, ROMRanker])
def test_a_component_dropped_without_close_gives_its_share_back(cls, fresh_checkpoint):
    kept, dropped = (cls(model=str(fresh_checkpoint), device=CPU) for _ in range(2))
    spec = kept._spec(device="cpu")
    kept.warm_up()
    dropped.warm_up()
    assert REGISTRY.users(spec) == 2
    del dropped
    gc.collect()
    assert REGISTRY.users(spec) == 1
    freed = weakref.ref(kept._encoder)
    del kept
    gc.collect()
    assert REGISTRY.users(spec) == 0
    assert freed() is None


def test_a_closed_component_gives_nothing_back_when_it_is_dropped(fresh_checkpoint):
    kept, dropped = (ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU) for _ in range(2))
    kept.warm_up()
    for _ in range(2):
        dropped.warm_up()
        dropped.close()
    del dropped
    gc.collect()
    assert REGISTRY.users(kept._spec(device="cpu")) == 1
    kept.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_start_cold_and_have_a_share_of_their_own(duplicate, fresh_checkpoint):
    original = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU)
    spec = original._spec(device="cpu")
    original.warm_up()
    twin = duplicate(original)
    assert twin._encoder is None
    assert REGISTRY.users(spec) == 1
    twin.warm_up()
    assert REGISTRY.users(spec) == 2
    del twin
    gc.collect()
    assert REGISTRY.users(spec) == 1
    original.close()
    assert REGISTRY.users(spec) == 0


def test_another_dtype_is_another_model(fresh_checkpoint):
    full = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU)
    half = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU, model_kwargs={"dtype": "bfloat16"})
    full.warm_up()
    half.warm_up()
    assert full._encoder is not half._encoder
    full.close()
    half.close()


def test_to_dict_keeps_the_engine_that_was_asked_for(fresh_checkpoint):
    embedder = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU)
    embedder.warm_up()
    assert embedder._encoder.backend_name == "torch-float32"
    data = embedder.to_dict()
    assert data["init_parameters"]["backend"] == "auto"
    assert ROMTextEmbedder.from_dict(data).to_dict() == data
    embedder.close()


def test_int8_round_trips(tiny_checkpoint):
    reader = ROMExtractiveReader(model=str(tiny_checkpoint), backend="openvino", model_kwargs={"dtype": "int8"})
    data = reader.to_dict()
    assert data["init_parameters"]["backend"] == "openvino"
    assert data["init_parameters"]["model_kwargs"] == {"dtype": "int8"}
    assert ROMExtractiveReader.from_dict(data).to_dict() == data


def test_a_missing_checkpoint_fails_at_warm_up_and_leaves_no_share(tmp_path):
    embedder = ROMTextEmbedder(model=str(tmp_path), device=CPU)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        embedder.run("a")
    assert embedder._share is None
    assert REGISTRY.users(embedder._spec(device="cpu")) == 0


class TestHub:
    @pytest.fixture
    def asked(self, monkeypatch):
        """Every look-up, as (asks the network, token, revision); the cache is empty."""
        calls = []

        def snapshot_download(model, *, local_files_only=False, token=None, revision=None, **options):
            calls.append((not local_files_only, token, revision))
            raise LocalEntryNotFoundError(f"{model} is not there")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return calls

    def test_local_files_only_never_asks_the_hub(self, asked):
        for options in ({"local_files_only": True}, {"model_kwargs": {"local_files_only": True}}):
            embedder = ROMTextEmbedder(model="someone/some-rom", device=CPU, **options)
            with pytest.raises(CheckpointError, match="someone/some-rom"):
                embedder.warm_up()
        assert [network for network, _, _ in asked] == [False, False]

    def test_token_and_revision_reach_the_hub(self, asked, monkeypatch):
        monkeypatch.setenv("MY_HUB_TOKEN", "secret-value")
        reader = ROMExtractiveReader(
            model="someone/some-rom", device=CPU, token=Secret.from_env_var("MY_HUB_TOKEN"), revision="v2"
        )
        with pytest.raises(CheckpointError):
            reader.warm_up()
        assert asked == [(False, "secret-value", "v2"), (True, "secret-value", "v2")]
        assert "secret-value" not in str(reader.to_dict())

    def test_a_missing_token_matters_at_warm_up_only(self, asked, monkeypatch):
        monkeypatch.delenv("MY_HUB_TOKEN", raising=False)
        token = Secret.from_env_var("MY_HUB_TOKEN")
        for cls in (ROMTextEmbedder, ROMDocumentEmbedder, ROMExtractiveReader, ROMRanker):
            part = cls(model="someone/some-rom", device=CPU, token=token)
            part = cls.from_dict(part.to_dict())
            with pytest.raises(ValueError, match="MY_HUB_TOKEN"):
                part.warm_up()
        assert asked == []

    def test_models_on_this_machine_need_no_token(self, fresh_checkpoint, monkeypatch):
        monkeypatch.delenv("MY_HUB_TOKEN", raising=False)
        token = Secret.from_env_var("MY_HUB_TOKEN")
        local = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU, token=token)
        local.warm_up()
        assert local._encoder is not None
        local.close()
        monkeypatch.setattr("rom_haystack.modeling.places.bundled_checkpoints", lambda: {"some-rom"})
        assert ROMTextEmbedder(model="some-rom", token=token)._hub_token() is None

    def test_an_impossible_name_is_named_at_warm_up(self):
        embedder = ROMTextEmbedder(model="~no-such-user/rom", device=CPU)
        with pytest.raises(CheckpointError, match="~no-such-user/rom"):
            embedder.warm_up()

    def test_a_local_folder_never_asks(self, asked, fresh_checkpoint):
        embedder = ROMTextEmbedder(model=str(fresh_checkpoint), device=CPU)
        embedder.warm_up()
        assert asked == []
        embedder.close()


class TestDevice:
    def test_no_device_is_resolved_before_warm_up(self, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(ComponentDevice, "resolve_device", lambda device=None: pytest.fail("resolved too early"))
        for cls in (ROMTextEmbedder, ROMDocumentEmbedder, ROMExtractiveReader, ROMRanker):
            assert cls(model=str(tiny_checkpoint)).to_dict()["init_parameters"]["device"] is None

    @pytest.mark.parametrize(
        ("device_map", "expected"),
        [("cpu", "cpu"), ({"": "cpu"}, "cpu"), (torch.device("cpu"), "cpu"), (1, "cuda:1"), ("cuda", "cuda:0")],
    )
    def test_device_map_names_one_device(self, tiny_checkpoint, device_map, expected):
        reader = ROMExtractiveReader(model=tiny_checkpoint, model_kwargs={"device_map": device_map})
        assert reader._torch_device() == expected

    @pytest.mark.parametrize("backend", ["onnx", "openvino"])
    @pytest.mark.parametrize("options", [{}, {"model_kwargs": {"device_map": "auto"}}, {"device": CPU}])
    def test_engines_for_graphs_stay_on_the_cpu_of_a_machine_with_a_gpu(
        self, tiny_checkpoint, monkeypatch, backend, options
    ):
        resolve = ComponentDevice.resolve_device
        monkeypatch.setattr(
            ComponentDevice, "resolve_device", lambda device=None: resolve(device or ComponentDevice.from_str("cuda:0"))
        )
        reader = ROMExtractiveReader(model=tiny_checkpoint, backend=backend, **options)
        assert reader._torch_device() == "cpu"
        assert ROMExtractiveReader(model=tiny_checkpoint)._torch_device() == "cuda:0"

    @pytest.mark.parametrize("backend", ["onnx", "openvino"])
    def test_a_device_that_an_engine_can_not_use_fails_at_construction(self, tiny_checkpoint, backend):
        with pytest.raises(ValueError, match=f"Backend '{backend}' runs on the CPU, not on 'cuda:0'"):
            ROMTextEmbedder(model=str(tiny_checkpoint), backend=backend, device=ComponentDevice.from_str("cuda:0"))

    def test_an_automatic_device_map_is_the_component_device(self, tiny_checkpoint):
        reader = ROMExtractiveReader(model=tiny_checkpoint, device=CPU, model_kwargs={"device_map": "auto"})
        assert reader._torch_device() == "cpu"

    def test_several_devices_are_refused(self, tiny_checkpoint):
        reader = ROMExtractiveReader(model=tiny_checkpoint, model_kwargs={"device_map": {"a": 0, "b": 1}})
        with pytest.raises(ValueError, match="names 2 devices"):
            reader.warm_up()
