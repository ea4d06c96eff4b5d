"""The lean attention computes what transformers' own does, and recipes may name it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from training.attention import LEAN, lean_attention
from training.memory import keep_freed_memory
from training.starting import load_start, set_dropout


def outputs_and_gradients(model, inputs, dtype):
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        hidden = model.encoder(**inputs).last_hidden_state
    (hidden.float()[inputs["attention_mask"].bool()] ** 2 * 0.3).sum().backward()
    return hidden.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_outputs_and_gradients_are_those_of_eager(tiny_model, dtype, close):
    inputs = {
        "input_ids": torch.arange(5, 45).reshape(4, 10),
        "attention_mask": (torch.arange(10) < torch.tensor([10, 4, 1, 7])[:, None]).long(),
    }
    found = {}
    for implementation in ("eager", LEAN):
        model = copy.deepcopy(tiny_model).train()
        set_dropout(model, 0.0)
        model.encoder.set_attn_implementation(implementation)
        found[implementation] = outputs_and_gradients(model, inputs, dtype)
    (hidden, expected), (lean_hidden, gradients) = found["eager"], found[LEAN]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(lean_hidden[real], hidden[real], atol=close, rtol=close)
    assert expected.keys() == gradients.keys()
    for name, gradient in expected.items():
        distance = (gradients[name] - gradient).norm() / gradient.norm().clamp(min=1e-6)
        assert distance < close, name


def test_dropout_leaves_places_out(monkeypatch):
    torch.manual_seed(0)
    layer = torch.nn.Module()
    query, key = torch.randn(2, 1, 2, 6, 4)
    value = torch.ones(1, 2, 6, 4)
    whole, _ = lean_attention(layer, query, key, value, None)
    torch.testing.assert_close(whole, torch.ones(1, 6, 2, 4))
    dropped, weights = lean_attention(layer, query, key, value, None, dropout=0.5)
    assert (weights == 0).any()
    assert not torch.allclose(dropped, whole)
    same, _ = lean_attention(layer.eval(), query, key, value, None, dropout=0.5)
    torch.testing.assert_close(same, whole)


def test_recipes_may_name_it(make_recipe, bert_folder):
    model, _ = load_start(make_recipe(bert_folder, attention=LEAN))
    assert model.encoder.config._attn_implementation == LEAN


def test_freed_memory_may_be_kept(monkeypatch):
    asked = []
    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace(mallopt=lambda *option: asked.append(option)))
    keep_freed_memory()  # not glibc's own, which would hold for all tests of this process
    assert [option for option, _ in asked] == [-3, -1]
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # a C library without glibc's options
    keep_freed_memory()
