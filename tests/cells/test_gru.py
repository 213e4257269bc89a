"""The GRU against torch.nn's; what holds for every cell is in test_base.py."""

import pytest
import torch

from penstock.cells.gru import GRU
from tests.reference import SIZES, Variant, assert_equal, evaluate, random_problem, torch_layer


@pytest.mark.parametrize("bias", [True, False])
def test_step_is_torch_gru_cell(bias: bool) -> None:
    problem = random_problem(Variant("gru", bias=bias), (1, 3, 17, 33))
    peer = torch.nn.GRUCell(17, 33, bias=bias, dtype=torch.float64)
    peer.load_state_dict({name: t for name, t in problem.weights._asdict().items() if t is not None})
    (h,) = GRU.step(problem.x[0], problem.state, problem.weights)
    assert_equal({"h": h}, {"h": peer(problem.x[0], *problem.state).detach()})


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sequence_is_torch_gru(sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(Variant("gru"), sizes)
    assert_equal(evaluate(problem), evaluate(problem, torch_layer))
