"""The simple recurrent network against torch.nn's; what holds for every cell is in test_base.py."""

import pytest
import torch

from penstock.cells.rnn import RNN_RELU, RNN_TANH
from tests.reference import SIZES, Variant, assert_equal, evaluate, random_problem, torch_layer

RNNS = {"tanh": RNN_TANH, "relu": RNN_RELU}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("nonlinearity", RNNS)
def test_step_is_torch_rnn_cell(nonlinearity: str, bias: bool) -> None:
    cell = RNNS[nonlinearity]
    problem = random_problem(Variant(cell.name, bias=bias), (1, 3, 17, 33))
    peer = torch.nn.RNNCell(17, 33, bias=bias, nonlinearity=nonlinearity, dtype=torch.float64)
    peer.load_state_dict({name: t for name, t in problem.weights._asdict().items() if t is not None})
    (h,) = cell.step(problem.x[0], problem.state, problem.weights)
    assert_equal({"h": h}, {"h": peer(problem.x[0], *problem.state).detach()})


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["rnn_tanh", "rnn_relu"])
def test_sequence_is_torch_rnn(name: str, sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(Variant(name), sizes)
    assert_equal(evaluate(problem), evaluate(problem, torch_layer))


def test_relu_has_no_gradient_at_zero() -> None:
    problem = random_problem(Variant("rnn_relu", bias=False), (1, 3, 17, 33))
    problem = problem._replace(x=torch.zeros_like(problem.x), state=(torch.zeros_like(problem.state[0]),))
    _, _, saved = RNN_RELU.forward(problem.x, problem.state, problem.weights)
    grad_x, (grad_h,), _ = RNN_RELU.backward(
        problem.grad_y, problem.grad_state_n, None, problem.x, problem.state, problem.weights, saved
    )
    assert grad_x.count_nonzero() == grad_h.count_nonzero() == 0
