"""Pairs read in chunks of similar length: the loss and gradients of the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch

from training.starting import set_dropout
from training.tasks import ReadingTask, RecurringSpansTask
from training.tasks.chunks import chunks_by_length


def loss_and_gradients(model, task, features):
    model.zero_grad()
    loss, metrics = task.loss(model, features)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), {name: value.item() for name, value in metrics.items()}, found


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 100])
@pytest.mark.parametrize("kind", [ReadingTask, RecurringSpansTask])
def test_loss_and_gradients_are_those_of_the_whole_batch(make_task, tiny_model, kind, chunk_size):
    model = copy.deepcopy(tiny_model).train()
    set_dropout(model, 0.0)
    options = {"batch_size": 11, "max_length": 48, "stride": 8, "max_query_length": 12}
    whole, parts = make_task(kind, **options), make_task(kind, **options, chunk_size=chunk_size)
    features = whole.batch(0)
    lengths = features["inputs"]["attention_mask"].sum(-1)
    assert lengths.min() < lengths.max()
    loss, metrics, expected = loss_and_gradients(model, whole, features)
    in_chunks, metrics_in_chunks, found = loss_and_gradients(model, parts, features)
    torch.testing.assert_close(in_chunks, loss)
    assert metrics_in_chunks == pytest.approx(metrics, rel=1e-4)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)


def test_chunks_hold_every_text_once_and_are_as_long_as_their_longest():
    lengths = torch.tensor([3, 7, 1, 7, 4])
    mask = (torch.arange(9) < lengths[:, None]).long()
    tokens = {"input_ids": mask * torch.arange(1, 10), "attention_mask": mask}
    chunks = list(chunks_by_length(tokens, 2))
    assert [rows.tolist() for rows, _, _ in chunks] == [[1, 3], [4, 0], [2]]
    assert [chunk["input_ids"].shape for _, _, chunk in chunks] == [(2, 7), (2, 4), (1, 1)]
    assert [int(columns.sum()) for _, columns, _ in chunks] == [7, 4, 1]
    assert sum(int(chunk["attention_mask"].sum()) for _, _, chunk in chunks) == int(lengths.sum())
