"""PyTorch as an inference engine: the model's own outputs, whatever else is run."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rom_haystack.inference.backends.base import TokenIds
from rom_haystack.inference.backends.pytorch import TorchBackend
from rom_haystack.inference.facts import facts_of
from rom_haystack.modeling import DEFAULT_CHECKPOINT, ROMConfig, ROMModel, load_checkpoint

READING = ("start_logits", "end_logits", "relevance_logits")
MAX_LENGTH = 512
CALIBRATION = 0.15  # of a logit, before it becomes a score


def random_inputs(lengths, vocabulary: int, seed: int = 0) -> list[TokenIds]:
    """Pairs of random tokens, with the second half of each in the second segment."""
    random = np.random.default_rng(seed)
    return [
        TokenIds(random.integers(5, vocabulary, n), (np.arange(n) >= n // 2).astype(np.int64))
        for n in map(int, lengths)
    ]


def torch_backend(model: ROMModel, **options) -> TorchBackend:
    return TorchBackend(model, **{"pad_token_id": 0, "max_length": MAX_LENGTH, "token_budget": 2048, **options})


def direct(model: ROMModel, tokens: TokenIds, head: str) -> dict[str, np.ndarray]:
    """What the model itself says of one input, without padding."""
    with torch.inference_mode():
        outputs = model(
            input_ids=torch.tensor([tokens.input_ids.tolist()]),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.int64),
            token_type_ids=torch.tensor([tokens.token_type_ids.tolist()]),
            head=head,
        )
    return {name: tensor[0].float().numpy() for name, tensor in outputs.items()}


def score(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-CALIBRATION * logits))


def assert_independent_of_company(backend: TorchBackend, inputs: list[TokenIds], *, exactly: bool) -> None:
    """Compare each input's outputs alone with those in random batches."""
    random = np.random.default_rng(1)
    for head in ("reading", "retrieval"):
        alone = [backend.run([tokens], head)[0] for tokens in inputs]
        for batch_size in (None, None, 2, 3, 7):
            chosen = random.permutation(len(inputs))[: random.integers(2, len(inputs) + 1)]
            for index, output in zip(
                chosen, backend.run([inputs[i] for i in chosen], head, batch_size=batch_size), strict=True
            ):
                for name, expected in alone[index].items():
                    if exactly:
                        np.testing.assert_array_equal(output[name], expected)
                    elif name == "embedding":
                        assert output[name] @ expected >= 1 - 1e-6
                        np.testing.assert_allclose(output[name], expected, atol=1e-5)
                    else:
                        np.testing.assert_allclose(score(output[name]), score(expected), atol=1e-5)


@pytest.fixture
def seen(tiny_model):
    """The shapes of what reaches the tiny model's encoder."""
    shapes: list[tuple[int, int]] = []
    handle = tiny_model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    handle.remove()


@pytest.fixture
def elsewhere(monkeypatch):
    """Make backends believe that models on the CPU are on a GPU."""
    monkeypatch.setattr(ROMModel, "device", property(lambda model: torch.device("cuda")))
    monkeypatch.setattr(TorchBackend, "_on_device", lambda backend, array: torch.from_numpy(array))


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_outputs_are_the_models_own(tiny_model, batch_size):
    inputs = random_inputs([3, 40, 32, 33, 200, 40, 512, 31, 5], 800)
    backend = torch_backend(tiny_model)
    for head, names in (("reading", READING), ("retrieval", ("embedding",))):
        outputs = backend.run(inputs, head, batch_size=batch_size)
        assert len(outputs) == len(inputs)
        for tokens, output in zip(inputs, outputs, strict=True):
            expected = direct(tiny_model, tokens, head)
            assert tuple(output) == tuple(expected) == names
            for name, values in expected.items():
                assert output[name].shape == values.shape
                np.testing.assert_allclose(output[name], values, atol=2e-5)


def test_outputs_on_other_devices_are_the_models_own(tiny_model, elsewhere):
    inputs = random_inputs([3, 40, 32, 33, 200, 40, 512, 31, 5], 800)
    for head in ("reading", "retrieval"):
        for tokens, output in zip(inputs, torch_backend(tiny_model).run(inputs, head), strict=True):
            for name, values in direct(tiny_model, tokens, head).items():
                np.testing.assert_allclose(output[name], values, atol=2e-5)


def test_every_family_up_to_its_last_position(family):
    torch.manual_seed(5)
    model = ROMModel(ROMConfig(encoder=family.config)).eval()
    facts = facts_of(model, family.tokenizer)
    backend = torch_backend(model, pad_token_id=facts.pad_token_id, max_length=facts.max_length)
    longest = min(facts.max_length, 100)
    inputs = random_inputs([longest, 3, 33, longest - 1, 20, 33, 34], len(family.tokenizer))
    for head in ("reading", "retrieval"):
        for tokens, output in zip(inputs, backend.run(inputs, head), strict=True):
            for name, values in direct(model, tokens, head).items():
                np.testing.assert_allclose(output[name], values, atol=2e-5, err_msg=f"{family.name} {name}")


def test_outputs_are_arrays_of_their_own(tiny_model):
    shared, *_ = torch_backend(tiny_model).run(random_inputs([10, 10, 10], 800), "reading")
    assert shared["relevance_logits"].shape == ()
    for array in shared.values():
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
        assert array.flags.owndata
        assert array.flags.c_contiguous


def test_cpu_pads_an_input_by_its_own_length_only(tiny_model, seen):
    inputs = random_inputs([1, 32, 33, 60, 64, 64, 65, 500, 500, 510], 800)
    torch_backend(tiny_model, max_length=510, token_budget=1024).run(inputs, "retrieval")
    assert seen == [(2, 510), (1, 510), (1, 96), (4, 64), (2, 32)]


def test_cpu_batch_size(tiny_model, seen):
    torch_backend(tiny_model).run(random_inputs([40, 50, 40, 50, 40], 800), "reading", batch_size=2)
    assert seen == [(2, 64), (2, 64), (1, 64)]


def test_cpu_in_low_precision_runs_one_input_at_a_time(tiny_model):
    model = copy.deepcopy(tiny_model).bfloat16()
    batches: list[tuple[int, ...]] = []
    model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    torch_backend(model).run(random_inputs([40, 30, 40], 800), "reading", batch_size=8)
    assert batches == [(1, 64), (1, 64), (1, 32)]


def test_padding_is_the_padding_token(tiny_model):
    batches: list[list[int]] = []
    handle = tiny_model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: batches.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    tokens = random_inputs([30], 800)[0]
    torch_backend(tiny_model, pad_token_id=4).run([tokens], "reading")
    handle.remove()
    assert batches == [[*tokens.input_ids.tolist(), 4, 4]]


def test_other_devices_batch_similar_lengths(tiny_model, seen, elsewhere):
    inputs = random_inputs([10, 100, 90, 50, 40, 9], 800)
    torch_backend(tiny_model, token_budget=200).run(inputs, "reading")
    assert seen == [(2, 100), (4, 50)]
    seen.clear()
    torch_backend(tiny_model, token_budget=200).run(inputs, "reading", batch_size=3)
    assert seen == [(2, 100), (3, 50), (1, 9)]


def test_input_longer_than_the_budget_goes_alone(tiny_model, seen):
    torch_backend(tiny_model, token_budget=64).run(random_inputs([300, 20, 300, 20], 800), "reading")
    assert seen == [(1, 320), (1, 320), (2, 32)]


def test_segments_reach_models_that_know_them(tiny_model):
    ids = np.arange(5, 25)
    first, second = np.zeros(20, dtype=np.int64), np.ones(20, dtype=np.int64)
    one, other = torch_backend(tiny_model).run([TokenIds(ids, first), TokenIds(ids, second)], "reading")
    assert np.abs(one["start_logits"] - other["start_logits"]).max() > 0.1


def test_segments_are_kept_from_models_without(tiny_model):
    config = copy.deepcopy(tiny_model.config)
    config.encoder.type_vocab_size = 1
    ids = np.arange(5, 25)
    first, second = np.zeros(20, dtype=np.int64), np.ones(20, dtype=np.int64)
    backend = torch_backend(ROMModel(config).eval())
    one, other = backend.run([TokenIds(ids, first), TokenIds(ids, second)], "reading")
    np.testing.assert_array_equal(one["start_logits"], other["start_logits"])


def test_input_without_tokens_has_outputs(tiny_model):
    empty = TokenIds(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    backend = torch_backend(tiny_model)
    assert np.isfinite(backend.run([empty], "retrieval")[0]["embedding"]).all()
    assert backend.run([empty], "reading")[0]["start_logits"].shape == (0,)


def test_nothing_to_run(tiny_model):
    assert torch_backend(tiny_model).run([], "reading") == []


def test_unknown_head(tiny_model):
    with pytest.raises(KeyError, match="no head 'masked_lm'"):
        torch_backend(tiny_model).run(random_inputs([5], 800), "masked_lm")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_name_and_output_type(tiny_model, dtype):
    backend = torch_backend(copy.deepcopy(tiny_model).to(getattr(torch, dtype)))
    assert backend.name == f"torch-{dtype}"
    output = backend.run(random_inputs([9], 800), "reading")[0]
    assert {array.dtype for array in output.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_size_below_one(tiny_model, dtype):
    backend = torch_backend(copy.deepcopy(tiny_model).to(dtype))
    with pytest.raises(ValueError, match="batch_size is 0"):
        backend.run(random_inputs([9], 800), "reading", batch_size=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_company_changes_nothing(tiny_model, dtype):
    lengths = [*np.random.default_rng(2).integers(1, 200, 20), 31, 32, 32, 33, 64, 96, MAX_LENGTH, MAX_LENGTH]
    backend = torch_backend(copy.deepcopy(tiny_model).to(dtype))
    assert_independent_of_company(backend, random_inputs(lengths, 800), exactly=dtype != torch.float32)


@pytest.mark.integration
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_company_changes_nothing_for_the_bundled_checkpoint(dtype):
    model, _ = load_checkpoint(DEFAULT_CHECKPOINT, dtype=dtype)
    lengths = [*np.random.default_rng(2).integers(3, 130, 8), 31, 32, 64, 64, 200]
    assert_independent_of_company(torch_backend(model), random_inputs(lengths, 30000), exactly=dtype != torch.float32)
