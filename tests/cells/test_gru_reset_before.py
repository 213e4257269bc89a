"""The GRU of Cho et al. against the paper; what holds for every cell is in test_base.py."""

import math

import pytest
import torch
from torch import Tensor

from penstock.cells.gru import GRU
from penstock.cells.gru_reset_before import GRU_RESET_BEFORE
from tests.reference import Problem, Variant, assert_equal, random_problem


def paper_step(problem: Problem, b: int) -> list[float]:
    """Equations 5 to 8 of Cho et al. (2014), unit by unit in plain numbers, with the sum of our biases."""
    x, h = problem.x[0, b].tolist(), problem.state[0][b].tolist()
    W_r, W_z, W = (part.tolist() for part in problem.weights.weight_ih.chunk(3))
    U_r, U_z, U = (part.tolist() for part in problem.weights.weight_hh.chunk(3))
    b_r, b_z, b_h = (part.tolist() for part in _bias(problem).chunk(3))
    H = range(len(h))

    def dot(u: list[float], v: list[float]) -> float:
        return math.fsum(p * q for p, q in zip(u, v, strict=True))

    def sigmoid(a: float) -> float:
        return 1 / (1 + math.exp(-a))

    r = [sigmoid(dot(W_r[j], x) + dot(U_r[j], h) + b_r[j]) for j in H]  # equation 5
    z = [sigmoid(dot(W_z[j], x) + dot(U_z[j], h) + b_z[j]) for j in H]  # equation 6
    r_h = [r[j] * h[j] for j in H]
    candidate = [math.tanh(dot(W[j], x) + dot(U[j], r_h) + b_h[j]) for j in H]  # equation 8
    return [z[j] * h[j] + (1 - z[j]) * candidate[j] for j in H]  # equation 7


def _bias(problem: Problem) -> Tensor:
    b_ih, b_hh = problem.weights.bias_ih, problem.weights.bias_hh
    return torch.zeros(len(problem.weights.weight_ih)) if b_ih is None or b_hh is None else b_ih + b_hh


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(1, 3, 17, 33), (1, 17, 1, 3), (1, 1, 33, 1)], ids=str)
def test_step_is_the_paper(sizes: tuple[int, int, int, int], bias: bool) -> None:
    problem = random_problem(Variant("gru_reset_before", bias=bias), sizes)
    expected = torch.tensor([paper_step(problem, b) for b in range(sizes[1])], dtype=torch.float64)
    (h,) = GRU_RESET_BEFORE.step(problem.x[0], problem.state, problem.weights)
    assert_equal({"h": h}, {"h": expected})


def test_reset_before_and_after_differ_only_through_the_recurrent_product() -> None:
    """With a diagonal W_hn and no b_hn, r * (W_hn @ h) is W_hn @ (r * h), so both forms are the same cell."""
    problem = random_problem(Variant("gru_reset_before", bias=False), (1, 3, 17, 33))
    W_hr, W_hz, W_hn = problem.weights.weight_hh.chunk(3)

    def both(candidate: Tensor) -> tuple[Tensor, Tensor]:
        weights = problem.weights._replace(weight_hh=torch.cat([W_hr, W_hz, candidate]))
        (before,) = GRU_RESET_BEFORE.step(problem.x[0], problem.state, weights)
        (after,) = GRU.step(problem.x[0], problem.state, weights)
        return before, after

    before, after = both(torch.diag(W_hn.diag()))
    assert_equal({"h": before}, {"h": after})
    before, after = both(W_hn)
    assert (before - after).abs().max() > 1e-3
