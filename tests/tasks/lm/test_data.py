"""Windows that cover every token, and batches of them."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from penstock.tasks.lm import codec
from penstock.tasks.lm.corpus import encode
from penstock.tasks.lm.data import (
    IGNORED,
    StreamSampler,
    TextData,
    collate,
    measuring_rows,
    training_rows,
    write_sizes,
)
from tests.tasks.lm.text import small_config


def streams(tokens: int, rows: int, epoch: int = 0, **options: Any) -> list[list[Any]]:
    sampler = StreamSampler(tokens, rows, window=5, **{"shuffle": True, **options})
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return batches


def covered(batches: list[list[Any]], tokens: int) -> list[int]:
    return [
        (window.first + i) % tokens
        for batch in batches
        for window in batch
        if window.counted
        for i in range(window.steps)
    ]


@pytest.mark.parametrize(("tokens", "rows"), [(103, 4), (100, 4), (20, 4), (9, 6), (7, 1), (5, 5)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_windows_cover_every_token_once_and_in_order(tokens: int, rows: int, shuffle: bool) -> None:
    batches = streams(tokens, rows, shuffle=shuffle)
    assert sorted(covered(batches, tokens)) == list(range(tokens))
    for row in range(len(batches[0])):
        windows = [batch[row] for batch in batches]
        for before, after in itertools.pairwise(windows):
            if before.steps and after.steps:
                assert after.first == (before.first + before.steps) % tokens
        assert [window.begins for window in windows].count(True) == 1 + (
            not shuffle and row == 0 and rows > 1
        )


def test_each_epoch_cuts_elsewhere_and_the_same_again() -> None:
    first, second = ([batch[0].first for batch in streams(103, 4, epoch)] for epoch in (0, 1))
    assert len(first) == len(second)
    assert (second[0] - first[0]) % 103
    assert [batch[0].first for batch in streams(103, 4, 1)] == second
    assert [batch[0].first for batch in streams(103, 4, 1, seed=2)] != second
    assert {streams(103, 4, epoch)[0][0].first % 5 for epoch in range(40)} == set(range(5))


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_streams(shuffle: bool) -> None:
    shares = [streams(103, 7, shuffle=shuffle, rank=rank, world_size=3) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(place for share in shares for place in covered(share, 103)) == list(range(103))


def test_inputs_are_the_tokens_before(tmp_path: Path) -> None:
    data = encoded(tmp_path, "abcdefghijklmnopqrstuvwxyz")
    for batch in streams(26, 3):
        for window in batch:
            example = data[window]
            expected = [(window.first + i) % 26 for i in range(window.steps)]
            assert example.targets.tolist() == [2 + place for place in expected]
            before = [2 + place - 1 if place else 0 for place in expected]
            if window.begins:
                before[0] = 0
            assert example.inputs.tolist() == before


def test_warming_up_counts_nothing(tmp_path: Path) -> None:
    data = encoded(tmp_path, "abcdefghijklmnopqrstuvwxyz")
    batches = streams(26, 2, shuffle=False)
    warm, first = (collate([data[window] for window in batch]) for batch in batches[:2])
    assert (warm["targets"] == IGNORED).all()
    assert warm["inputs"].tolist() == [[0] * 5, [0, *range(2 + 8, 2 + 12)]]
    assert warm["characters"].tolist() == [0, 0]
    assert first["begins"].tolist() == [True, False]
    assert first["inputs"][:, 0].tolist() == [0, 2 + 12]
    total = sum(float(collate([data[window] for window in batch])["characters"].sum()) for batch in batches)
    assert total == pytest.approx(26)


def encoded(folder: Path, text: str) -> TextData:
    known = codec.learn("char", [text], 1000, 1)
    write_sizes(folder, {"data": encode(folder, "data", known, [text])})
    return TextData(folder, "data")


def test_how_many_streams(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path, window=128, batch_rows=64, batch_tokens=4096)
    assert training_rows(10**6, config, 1) == 32, "no more than batch_tokens allow"
    assert training_rows(10**6, config, 2) == 64
    assert training_rows(1000, config, 1) == 7, "none shorter than a window"
    assert training_rows(5, config, 2) == 2
    assert measuring_rows(10**6, 128, 8192) == 64
    assert measuring_rows(2047, 128, 8192) == 1
    assert measuring_rows(4096, 128, 8192) == 4
