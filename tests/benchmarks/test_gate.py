"""No time without correct results: the gate."""

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import contest as contests
from benchmarks import gate
from benchmarks.contest import Contest
from benchmarks.gate import Gate, peer_failures
from benchmarks.grid import KINDS, Shape


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(3, 5, 4, 7),
        Shape(3, 5, 4, 7, L=2, bidirectional=True, ragged=True),
        Shape(3, 5, 4, 7, strided=True),
        Shape(3, 5, 4, 7, proj=2),
    ],
    ids=str,
)
def test_every_kind_and_shape_passes(kind, shape: Shape) -> None:
    if shape.fits(kind):
        assert Gate(kind, shape).failures(1) == {}


@pytest.mark.parametrize("wrong", ["y", "state 0", "grad x"])
def test_a_wrong_result_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Contest.results

    def broken(self: Contest, call: Any, *inputs: Any) -> dict[str, Tensor]:
        results = right(self, call, *inputs)
        if call is contests.call_ours:
            results[wrong] = results[wrong] * (1 + 1e-5)
        return results

    monkeypatch.setattr(Contest, "results", broken)
    assert list(Gate(KINDS["gru"], Shape(3, 5, 4, 7)).failures(1)) == [wrong]


def test_bad_luck_of_one_seed_is_forgiven_and_a_habit_is_not() -> None:
    unlucky = {seed: {"y": (1e-5 if seed == 0 else 1e-7, 1e-7)} for seed in range(gate.SEEDS)}
    assert gate.failures(unlucky.__getitem__, torch.float32) == {}
    assert gate.failures(lambda seed: {"y": (1e-5, 1e-7)}, torch.float32) == {
        "y": "1.00e-05 (plain torch 1.00e-07)"
    }


def test_gradients_may_be_off_by_three_times_outputs_by_twice() -> None:
    errors = {"y": (2.5e-6, 1e-6), "grad x": (2.5e-6, 1e-6)}
    assert list(gate.failures(lambda seed: errors, torch.float32)) == ["y"]


def test_not_a_number_is_wrong() -> None:
    got = {"y": torch.tensor([torch.nan])}
    errors = gate.errors(got, {"y": torch.ones(1)}, {"y": torch.ones(1)})
    assert list(gate.failures(lambda seed: errors, torch.float32)) == ["y"]


def test_a_peer_that_computes_something_else_is_found() -> None:
    contest = Contest(KINDS["lstm"], Shape(3, 5, 4, 7))
    y = contest.exact["y"].float()
    assert peer_failures(contest, lambda: {"y": y * (1 + 1e-4)}) == {}
    assert list(peer_failures(contest, lambda: {"y": y.bfloat16()})) == ["y"]
