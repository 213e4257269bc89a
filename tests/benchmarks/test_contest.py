"""What goes through the layers that are compared."""

import pytest
import torch

from benchmarks import contest as contests
from benchmarks.contest import Contest
from benchmarks.grid import KINDS, Shape
from tests.reference import assert_equal


def test_two_contests_of_one_seed_are_the_same() -> None:
    first, second = (Contest(KINDS["gru"], Shape(3, 5, 4, 7, ragged=True)) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert_equal(first.exact, second.exact, tolerance=0)
    assert not torch.equal(first.x, Contest(KINDS["gru"], Shape(3, 5, 4, 7, ragged=True), seed=1).x)


def test_strided_input_is_a_view_with_time_inside() -> None:
    x = Contest(KINDS["gru"], Shape(3, 5, 4, 7, strided=True)).x
    assert x.shape == (5, 3, 4)
    assert x.stride(0) == 1


def test_a_new_length_comes_in_every_call() -> None:
    contest = Contest(KINDS["gru"], Shape(2, 20, 4, 3, new_length=True))
    inputs = contest.inputs()
    lengths = [len(next(inputs)) for _ in range(10)]
    assert sorted(lengths) == list(range(11, 21))
    run = contest.training(contests.call_ours, contest.ours)
    assert [len(run()[0]) for _ in range(10)] == lengths


def test_training_gives_the_gradients_of_the_input_and_of_every_weight() -> None:
    contest = Contest(KINDS["lstm"], Shape(3, 5, 4, 7))
    got = contest.training(contests.call_ours, contest.ours)()
    expected = contest.training(contests.call_torch, contest.theirs)()
    assert len(got) == 5
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_pieces_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "PIECE", 2)
    contest = Contest(KINDS["lstm"], Shape(3, 5, 4, 7))
    pieces = contest.results(contests.call_in_pieces, contest.theirs, torch.float64)
    whole = contest.results(contests.call_torch, contest.theirs, torch.float64)
    assert_equal(pieces, whole)
