"""Batches of similar length."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rom_haystack.inference.batching import equal_length_batches, length_bucketed_batches, padded_length

LENGTHS = st.lists(st.integers(0, 600), max_size=80)
BATCH_SIZES = st.none() | st.integers(1, 20)


@given(LENGTHS, st.integers(1, 2000), BATCH_SIZES)
def test_every_index_once(lengths, budget, batch_size):
    batches = length_bucketed_batches(lengths, token_budget=budget, batch_size=batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batches)


@given(LENGTHS, st.integers(1, 2000), BATCH_SIZES)
def test_no_batch_outgrows_budget_or_size(lengths, budget, batch_size):
    for batch in length_bucketed_batches(lengths, token_budget=budget, batch_size=batch_size):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
        assert batch_size is None or len(batch) <= batch_size


@given(LENGTHS, st.integers(1, 2000), BATCH_SIZES)
def test_longest_first_and_equal_lengths_in_order(lengths, budget, batch_size):
    order = [i for batch in length_bucketed_batches(lengths, token_budget=budget, batch_size=batch_size) for i in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 2000), BATCH_SIZES)
def test_no_batch_ends_early(lengths, budget, batch_size):
    batches = length_bucketed_batches(lengths, token_budget=budget, batch_size=batch_size)
    for batch in batches[:-1]:
        one_more = len(batch) + 1
        assert one_more * lengths[batch[0]] > budget or (batch_size is not None and one_more > batch_size)


def test_by_hand():
    assert length_bucketed_batches([3, 9, 4, 4, 1], token_budget=12) == [[1], [2, 3, 0], [4]]
    assert length_bucketed_batches([3, 9, 4, 4, 1], token_budget=12, batch_size=2) == [[1], [2, 3], [0, 4]]


@given(st.integers(0, 600), st.integers(1, 600), st.integers(1, 128))
def test_padded_length_is_the_next_multiple_within_the_limit(length, limit, multiple):
    padded = padded_length(length, limit, multiple)
    assert padded >= max(length, 1)
    if length > limit:
        assert padded == length
    else:
        assert padded <= limit
        assert padded == limit or (padded % multiple == 0 and padded - max(length, 1) < multiple)


@pytest.mark.parametrize(
    ("length", "limit", "padded"),
    [(0, 512, 32), (1, 512, 32), (32, 512, 32), (33, 512, 64), (511, 512, 512), (500, 510, 510), (70, 64, 70)],
)
def test_padded_length_by_hand(length, limit, padded):
    assert padded_length(length, limit) == padded


@given(st.lists(st.integers(0, 9), max_size=80), st.integers(1, 40), BATCH_SIZES)
def test_equal_lengths_in_full_batches(lengths, budget, batch_size):
    batches = equal_length_batches(lengths, token_budget=budget, batch_size=batch_size)
    order = [index for batch in batches for index in batch]
    assert order == sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for batch in batches:
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget
        assert batch_size is None or len(batch) <= batch_size
    for batch, following in pairwise(batches):
        one_more, length = len(batch) + 1, lengths[batch[0]]
        if lengths[following[0]] == length:
            assert one_more * max(length, 1) > budget or (batch_size is not None and one_more > batch_size)


def test_equal_lengths_by_hand():
    lengths = [32, 64, 32, 32, 96, 64]
    assert equal_length_batches(lengths, token_budget=64) == [[4], [1], [5], [0, 2], [3]]
    assert equal_length_batches(lengths, token_budget=999) == [[4], [1, 5], [0, 2, 3]]
    assert equal_length_batches(lengths, token_budget=999, batch_size=2) == [[4], [1, 5], [0, 2], [3]]


@pytest.mark.parametrize("batches", [equal_length_batches, length_bucketed_batches])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token_budget": 0}, "token_budget is 0"),
        ({"token_budget": 8, "batch_size": 0}, "batch_size is 0"),
        ({"token_budget": 8, "batch_size": -3}, "batch_size is -3"),
    ],
)
def test_limits_below_one(batches, options, message):
    with pytest.raises(ValueError, match=f"{message}; it must be at least 1"):
        batches([1], **options)
