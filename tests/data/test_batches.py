"""Batches under a token budget: nothing lost, nothing twice, within the budget, fair to ranks. Padding."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from penstock.data.batches import EvenBatchSampler, TokenBatchSampler, pad


def random_lengths(seed: int, rows: int) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    return random.geometric(1 / 40, rows).clip(0, 300) - (random.random(rows) < 0.02)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [1, 7, 100, 3000])
@pytest.mark.parametrize("budget", [1, 64, 1000, 10**6])
@pytest.mark.parametrize("max_rows", [None, 1, 16])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_once_and_within_the_budget(
    seed: int, rows: int, budget: int, max_rows: int | None, shuffle: bool
) -> None:
    lengths = random_lengths(seed, rows)
    sampler = TokenBatchSampler(lengths, budget, max_rows=max_rows, shuffle=shuffle, seed=seed)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(rows))
    for batch in batches:
        assert 1 <= len(batch) <= (max_rows or rows)
        assert len(batch) == 1 or len(batch) * max(lengths[batch]) <= budget


@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("rows", [8, 9, 50, 2001])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_the_rows(world_size: int, rows: int, shuffle: bool) -> None:
    lengths = random_lengths(0, rows) + 1
    ranks = [
        TokenBatchSampler(lengths, 600, shuffle=shuffle, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = [list(rank) for rank in ranks]
    assert {len(of_rank) for of_rank in batches} == {len(ranks[0])}
    assert sorted(i for of_rank in batches for batch in of_rank for i in batch) == list(range(rows))


def test_a_row_is_repeated_only_if_there_is_no_other_way() -> None:
    ranks = [list(TokenBatchSampler([9] * 3, 9, shuffle=False, rank=rank, world_size=2)) for rank in (0, 1)]
    assert ranks == [[[0], [2]], [[1], [2]]]


def test_ranks_of_a_step_have_similar_lengths() -> None:
    lengths = random_lengths(3, 5000)
    ranks = [list(TokenBatchSampler(lengths, 2000, rank=rank, world_size=2)) for rank in (0, 1)]
    first, second = np.array([[max(lengths[batch]) for batch in batches] for batches in ranks])
    assert (np.abs(first - second) / np.maximum(first, second)).mean() < 0.1


def test_epochs_differ_and_come_back() -> None:
    sampler = TokenBatchSampler(random_lengths(0, 1000), 2000, seed=5)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
    assert epochs[0] == epochs[2]
    assert {tuple(sorted(batch)) for batch in epochs[0]}.isdisjoint(tuple(sorted(b)) for b in epochs[1])
    assert list(TokenBatchSampler(random_lengths(0, 1000), 2000, seed=6)) != epochs[0]


def test_rows_of_small_data_all_meet() -> None:
    sampler = TokenBatchSampler(np.arange(10, 30), 150)
    met = np.zeros((20, 20), bool)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        for batch in sampler:
            met[np.ix_(batch, batch)] = True
    assert met.all()


def test_little_padding() -> None:
    lengths = random_lengths(1, 20_000) + 1
    for shuffle, waste in ((True, 0.08), (False, 0.02)):
        sampler = TokenBatchSampler(lengths, 4000, shuffle=shuffle)
        padded = sum(len(batch) * max(lengths[batch]) for batch in sampler)
        assert padded < (1 + waste) * lengths.sum()
        assert padded / len(sampler) > 0.85 * 4000


def test_batches_come_in_random_order_or_from_the_longest() -> None:
    lengths = random_lengths(1, 3000)
    shuffled = [max(lengths[batch]) for batch in TokenBatchSampler(lengths, 2000)]
    ordered = [max(lengths[batch]) for batch in TokenBatchSampler(lengths, 2000, shuffle=False)]
    assert ordered == sorted(ordered, reverse=True)
    assert abs(np.corrcoef(np.arange(len(shuffled)), shuffled)[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lengths": []}, "lengths: expected shape"),
        ({"lengths": [[1]]}, "lengths: expected shape"),
        ({"lengths": [1], "world_size": 2}, "N >= 2"),
        ({"batch_tokens": 0}, "batch_tokens: expected a positive number, got 0"),
        ({"max_rows": 0}, "max_rows"),
        ({"rank": 1}, "rank: expected 0 to 0, got 1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TokenBatchSampler(**({"lengths": [3, 4], "batch_tokens": 8} | arguments))


def test_pad_ids() -> None:
    batch, lengths = pad([np.array([3, 4, 5], np.int32), np.array([6], np.int32), np.zeros(0, np.int32)])
    assert batch.dtype == lengths.dtype == torch.int64
    assert batch.tolist() == [[3, 4, 5], [6, 0, 0], [0, 0, 0]]
    assert lengths.tolist() == [3, 1, 0]


def test_pad_series_with_a_value() -> None:
    rows = [np.ones((n, 2), np.float32) * n for n in (1, 3)]
    batch, lengths = pad(rows, -1)
    assert batch.dtype == torch.float32
    assert batch.shape == (2, 3, 2)
    assert batch[0].tolist() == [[1, 1], [-1, -1], [-1, -1]]
    assert batch[1].tolist() == [[3, 3]] * 3
    assert lengths.tolist() == [1, 3]


def test_pad_has_at_least_one_step() -> None:
    assert pad([np.zeros(0, np.int32)])[0].shape == (1, 1)
    assert pad([np.zeros((0, 4), np.float64)] * 2)[0].shape == (2, 1, 4)


@pytest.mark.parametrize(
    ("count", "rows", "ranks"), [(100, 8, 1), (101, 8, 2), (7, 100, 3), (5, 1, 4), (3, 2, 3)]
)
def test_even_batches_hold_every_row_once(count: int, rows: int, ranks: int) -> None:
    samplers = [
        EvenBatchSampler(count, rows, shuffle=True, seed=3, rank=rank, world_size=ranks)
        for rank in range(ranks)
    ]
    found = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in found} == {len(samplers[0])}
    assert all(0 < len(batch) <= rows for batches in found for batch in batches)
    every = [row for batches in found for batch in batches for row in batch]
    assert sorted(set(every)) == list(range(count))
    assert len(every) - count < ranks
    samplers[0].set_epoch(1)
    if count > 50:
        assert len(every) == count
        assert list(samplers[0]) != found[0]
        samplers[0].set_epoch(0)
        assert list(samplers[0]) == found[0]


def test_even_batches_in_order() -> None:
    assert list(EvenBatchSampler(5, 2, shuffle=False)) == [[0], [1, 2], [3, 4]]
