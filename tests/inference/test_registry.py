"""One model in memory per spec, however many users."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rom_haystack.inference import EncoderRegistry, EncoderSpec
from rom_haystack.modeling import CheckpointError


@pytest.fixture
def registry() -> EncoderRegistry:
    return EncoderRegistry()


def test_same_spec_same_object(registry, tiny_checkpoint):
    one, other = (registry.acquire(EncoderSpec.create(tiny_checkpoint)) for _ in range(2))
    assert one is other
    assert registry.users(EncoderSpec.create(str(tiny_checkpoint))) == 2


def test_another_spec_another_object(registry, tiny_checkpoint):
    single = registry.acquire(EncoderSpec.create(tiny_checkpoint))
    half = registry.acquire(EncoderSpec.create(tiny_checkpoint, model_kwargs={"dtype": "bfloat16"}))
    assert single is not half
    assert (single.backend.model.dtype, half.backend.model.dtype) == (torch.float32, torch.bfloat16)


def test_freed_with_its_last_user(registry, tiny_checkpoint):
    spec = EncoderSpec.create(tiny_checkpoint)
    alive = weakref.ref(registry.acquire(spec))
    registry.acquire(spec)
    registry.release(spec)
    gc.collect()
    assert registry.users(spec) == 1
    assert alive() is not None
    registry.release(spec)
    gc.collect()
    assert registry.users(spec) == 0
    assert alive() is None


def test_releasing_what_nobody_holds_is_harmless(registry, tiny_checkpoint):
    spec = EncoderSpec.create(tiny_checkpoint)
    registry.release(spec)
    registry.acquire(spec)
    registry.release(spec)
    registry.release(spec)
    assert registry.users(spec) == 0
    registry.acquire(spec)
    assert registry.users(spec) == 1


def test_a_finalizer_may_release_in_the_thread_that_acquires(registry, tiny_checkpoint):
    """The garbage collector runs finalizers wherever it likes, so between a look-up and its count too."""
    spec = EncoderSpec.create(tiny_checkpoint)

    class Entries(dict):
        def get(self, key):
            entry = super().get(key)
            if entry is not None and dropped:
                registry.release(dropped.pop())
            return entry

    dropped = []
    registry._entries = Entries()
    registry.acquire(spec)
    dropped.append(spec)
    acquiring = threading.Thread(target=registry.acquire, args=(spec,), daemon=True)
    acquiring.start()
    acquiring.join(timeout=30)
    assert not acquiring.is_alive()
    assert registry.users(spec) == 1


def test_whoever_leaves_the_engine_to_the_machine_shares_with_who_names_it(registry, tiny_checkpoint):
    auto = EncoderSpec.create(tiny_checkpoint)
    named = EncoderSpec.create(tiny_checkpoint, backend="torch", model_kwargs={"dtype": "float32"})
    assert registry.acquire(auto) is registry.acquire(named)
    assert registry.users(auto) == registry.users(named) == 2
    registry.release(named)
    assert registry.users(auto) == 1


def test_failed_loading_leaves_nothing_behind(registry, tiny_checkpoint, tmp_path):
    folder = tmp_path / "late"
    folder.mkdir()
    spec = EncoderSpec.create(folder)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        registry.acquire(spec)
    assert registry.users(spec) == 0
    shutil.copytree(tiny_checkpoint, folder, dirs_exist_ok=True)
    assert registry.acquire(spec).embedding_dim == 64


def test_many_threads_load_once(registry, tiny_checkpoint, monkeypatch):
    spec, loads, together = EncoderSpec.create(tiny_checkpoint), [], threading.Barrier(8)
    load = EncoderSpec.load

    def counted(self):
        loads.append(self)
        return load(self)

    def acquire(_):
        together.wait(timeout=30)
        return registry.acquire(spec)

    monkeypatch.setattr(EncoderSpec, "load", counted)
    with ThreadPoolExecutor(8) as pool:
        encoders = list(pool.map(acquire, range(8)))
    assert len(loads) == 1
    assert len({id(encoder) for encoder in encoders}) == 1
    assert registry.users(spec) == 8


def test_one_failure_does_not_spoil_the_next_try(registry, tiny_checkpoint, monkeypatch):
    spec, tries, together = EncoderSpec.create(tiny_checkpoint), [], threading.Barrier(4)
    load = EncoderSpec.load

    def fails_first(self):
        tries.append(self)
        if len(tries) == 1:
            raise CheckpointError("not yet")
        return load(self)

    def acquire(_):
        together.wait(timeout=30)
        try:
            return registry.acquire(spec)
        except CheckpointError:
            return None

    monkeypatch.setattr(EncoderSpec, "load", fails_first)
    with ThreadPoolExecutor(4) as pool:
        encoders = [encoder for encoder in pool.map(acquire, range(4)) if encoder]
    assert len(encoders) == 3
    assert registry.users(spec) == 3


class TestSpec:
    @pytest.mark.parametrize("dtype", ["float64", "int4", "torch.float32", ""])
    def test_unknown_dtype(self, dtype):
        with pytest.raises(ValueError, match=f"Unknown dtype '{dtype}' for backend 'auto'; choose float32, bfloat16"):
            EncoderSpec("a", dtype=dtype)

    def test_unknown_backend(self):
        with pytest.raises(ValueError, match="Unknown backend 'jax'; choose auto, torch, onnx, openvino"):
            EncoderSpec("a", backend="jax")

    @pytest.mark.parametrize(
        ("backend", "dtype", "possible"),
        [
            ("torch", "int8", "float32, bfloat16, float16"),
            ("onnx", "bfloat16", "float32, int8"),
            ("openvino", "float64", "float32, bfloat16, float16, int8"),
        ],
    )
    def test_a_type_that_the_engine_has_not(self, backend, dtype, possible):
        with pytest.raises(ValueError, match=f"Unknown dtype '{dtype}' for backend '{backend}'; choose {possible}"):
            EncoderSpec("a", backend=backend, dtype=dtype)

    @pytest.mark.parametrize("backend", ["onnx", "openvino"])
    @pytest.mark.parametrize("device", ["cuda:0", "mps"])
    def test_engines_for_graphs_run_on_the_cpu_alone(self, backend, device):
        with pytest.raises(ValueError, match=f"Backend '{backend}' runs on the CPU, not on '{device}'"):
            EncoderSpec("a", backend=backend, device=device)

    @pytest.mark.parametrize("kind", ["model_kwargs", "tokenizer_kwargs"])
    def test_loading_options_are_for_torch(self, kind):
        with pytest.raises(ValueError, match=r"Backend 'openvino' has no use for these loading options: .*eager"):
            EncoderSpec.create("a", backend="openvino", **{kind: {"attn_implementation": "eager"}})

    def test_int8_comes_with_the_model_options_too(self):
        spec = EncoderSpec.create("a", backend="openvino", model_kwargs={"dtype": "int8"})
        assert (spec.dtype, spec.is_concrete) == ("int8", True)
        assert not EncoderSpec.create("a", backend="openvino").is_concrete
        assert not EncoderSpec.create("a", model_kwargs={"dtype": "int8"}).is_concrete

    @pytest.mark.parametrize(
        "model_kwargs", [{"dtype": "float16"}, {"torch_dtype": "float16"}, {"dtype": torch.float16}]
    )
    def test_dtype_may_come_with_the_model_options(self, model_kwargs):
        assert EncoderSpec.create("a", model_kwargs=model_kwargs) == EncoderSpec.create(
            "a", model_kwargs={"dtype": "float16"}
        )
        assert EncoderSpec.create("a", model_kwargs=model_kwargs).dtype == "float16"

    def test_folder_is_the_same_by_any_path(self, tiny_checkpoint, monkeypatch):
        monkeypatch.chdir(tiny_checkpoint.parent)
        assert EncoderSpec.create(tiny_checkpoint.name) == EncoderSpec.create(tiny_checkpoint)

    def test_order_of_options_does_not_matter(self):
        one = EncoderSpec.create("a", tokenizer_kwargs={"x": 1, "y": 2})
        assert one == EncoderSpec.create("a", tokenizer_kwargs={"y": 2, "x": 1})
        assert one != EncoderSpec.create("a", tokenizer_kwargs={"x": 1, "y": 3})

    def test_token_is_neither_compared_nor_shown(self):
        assert EncoderSpec.create("a", token="secret") == EncoderSpec.create("a")
        assert "secret" not in repr(EncoderSpec.create("a", token="secret"))

    def test_options_reach_the_loaders(self, tiny_checkpoint):
        encoder = EncoderSpec.create(
            tiny_checkpoint,
            model_kwargs={"attn_implementation": "eager"},
            tokenizer_kwargs={"sep_token": "[MASK]"},
        ).load()
        assert encoder.backend.model.encoder.config._attn_implementation == "eager"
        assert encoder.separator == " [MASK] "


def test_plain_and_created_specs_of_one_model_are_equal(tmp_path, monkeypatch):
    (tmp_path / "rom-minilm-l6").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of the same name does not hide a bundled checkpoint
    monkeypatch.setattr("rom_haystack.inference.registry.bundled_checkpoints", lambda: {"rom-minilm-l6"})
    assert EncoderSpec.create("rom-minilm-l6") == EncoderSpec("rom-minilm-l6")


@pytest.mark.parametrize("model", ["~nosuchuser/x", "x" * 300])
def test_impossible_paths_are_explained_when_loaded(model):
    with pytest.raises(CheckpointError, match=model[:12]):
        EncoderSpec.create(model).load()
