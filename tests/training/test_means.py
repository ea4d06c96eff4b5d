"""Metrics that stay on their device until they are asked for."""

from __future__ import annotations

import pytest
import torch

from rom_haystack.modeling import load_checkpoint
from training.loop import Means
from training.tasks.inverse_cloze import InverseClozeTask
from training.tasks.reading import ReadingTask
from training.tasks.retrieval import RetrievalTask


@pytest.fixture
def no_looks(monkeypatch):
    """Let whatever moves a number from its device fail."""

    def look(*_):
        raise AssertionError("waits for the device")

    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "__bool__", "__float__"):
            patched.setattr(torch.Tensor, name, look)
        yield patched


def test_numbers_are_added_without_a_look(no_looks):
    means, values = Means({"loss": [0.5, 2]}), torch.tensor([0.1, 0.7], requires_grad=True)
    for value in values:
        means.add("loss", value)
        means.add("recall", value)
    means.add("plain", 3.0)
    no_looks.undo()
    expected = sum(values.tolist())
    assert means.sums() == {"loss": (0.5 + expected, 4), "recall": (expected, 2), "plain": (3.0, 1)}
    assert means.take() == {"loss": round((0.5 + expected) / 4, 6), "recall": round(expected / 2, 6), "plain": 3.0}
    assert means.take() == {}


@pytest.mark.parametrize("kind", [ReadingTask, RetrievalTask, InverseClozeTask])
def test_tasks_measure_without_a_look(kind, make_task, tiny_checkpoint, tmp_path, no_looks):
    no_looks.undo()
    model, _ = load_checkpoint(tiny_checkpoint)
    task = make_task(kind, batch_size=3)
    task.prepare(model, tmp_path)
    features = task.batch(0)
    whole = torch.Tensor.item
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.Tensor, "item", lambda _: pytest.fail("waits for the device"))
        loss, metrics = task.loss(model, features)
    assert torch.Tensor.item is whole
    assert loss.requires_grad
    assert metrics
    assert not any(value.requires_grad for value in metrics.values())
