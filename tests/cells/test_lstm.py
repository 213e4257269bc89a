"""The LSTM against torch.nn's and, with peepholes, ONNX's; what holds for every cell is in test_base.py."""

import numpy as np
import onnx.reference
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from penstock.cells.lstm import LSTM
from tests.reference import (
    SIZES,
    Outputs,
    Problem,
    Variant,
    assert_equal,
    evaluate,
    plain,
    random_problem,
    torch_layer,
)


@pytest.mark.parametrize("bias", [True, False])
def test_step_is_torch_lstm_cell(bias: bool) -> None:
    problem = random_problem(Variant("lstm", bias=bias), (1, 3, 17, 33))
    peer = torch.nn.LSTMCell(17, 33, bias=bias, dtype=torch.float64)
    peer.load_state_dict({name: t for name, t in problem.weights._asdict().items() if t is not None})
    h, c = LSTM.step(problem.x[0], problem.state, problem.weights)
    expected_h, expected_c = peer(problem.x[0], problem.state)
    assert_equal({"h": h, "c": c}, {"h": expected_h.detach(), "c": expected_c.detach()})


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sequence_is_torch_lstm(sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(Variant("lstm"), sizes)._replace(grad_c_steps=None)
    assert_equal(evaluate(problem), evaluate(problem, torch_layer))


# torch.nn.LSTM wants the projection to be smaller than the hidden size.
@pytest.mark.parametrize("sizes", [sizes for sizes in SIZES if sizes[3] > 1], ids=str)
def test_projected_sequence_is_torch_lstm(sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(Variant("lstm", projection=True), sizes)._replace(grad_c_steps=None)
    assert_equal(evaluate(problem), evaluate(problem, torch_layer))


def onnx_lstm(problem: Problem) -> Outputs:
    """ONNX's reference evaluator on its LSTM operator with the input P, without cell states.

    Its gates are i, o, f, c and P is i, o, f. It leaves sequence_lens aside, so each row runs alone.
    """
    T, B, _ = problem.x.shape
    H = problem.state[1].shape[1]
    names = ["X", "W", "R", "B", "", "initial_h", "initial_c", "P"]
    node = helper.make_node("LSTM", names, ["Y", "Y_h", "Y_c"], hidden_size=H)
    double = TensorProto.DOUBLE
    graph = helper.make_graph(
        [node],
        "peephole LSTM",
        [helper.make_tensor_value_info(name, double, None) for name in names if name],
        [helper.make_tensor_value_info(name, double, None) for name in node.output],
    )
    opset = helper.make_opsetid("", 14)
    evaluator = onnx.reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=[opset]))

    W_ih, W_hh, b_ih, b_hh, _, p = problem.weights
    assert b_ih is not None
    assert b_hh is not None
    assert p is not None
    parameters = {
        "W": _iofc(W_ih),
        "R": _iofc(W_hh),
        "B": np.concatenate([_iofc(b_ih), _iofc(b_hh)], axis=1),
        "P": torch.cat([p.chunk(3)[k] for k in (0, 2, 1)]).numpy()[None],
    }

    y, h_n, c_n = (
        torch.zeros(T, B, H, dtype=torch.float64),
        problem.state[0].clone(),
        problem.state[1].clone(),
    )
    lengths = [T] * B if problem.lengths is None else problem.lengths.tolist()
    for b, length in enumerate(lengths):
        if length == 0:
            continue
        x = problem.x[:length, b : b + 1]
        Y, Y_h, Y_c = evaluator.run(
            None,
            parameters
            | {
                "X": (x.flip(0) if problem.reverse else x).numpy(),
                "initial_h": problem.state[0][None, b : b + 1].numpy(),
                "initial_c": problem.state[1][None, b : b + 1].numpy(),
            },
        )
        row = torch.from_numpy(np.array(Y)[:, 0, 0])  # Y is (T, directions, B, H)
        y[:length, b] = row.flip(0) if problem.reverse else row
        h_n[b], c_n[b] = torch.from_numpy(np.array(Y_h)[0, 0]), torch.from_numpy(np.array(Y_c)[0, 0])
    return y, (h_n, c_n), None


def _iofc(parameter: Tensor) -> np.ndarray:
    i, f, g, o = parameter.chunk(4)
    return torch.cat([i, o, f, g]).numpy()[None]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [17, 0, 5, 1, 16]], ids=["whole", "ragged"])
@pytest.mark.parametrize(("D", "H"), [(3, 33), (33, 1), (1, 17)])
def test_peephole_sequence_is_onnx_lstm(D: int, H: int, lengths: list[int] | None, reverse: bool) -> None:
    sizes = (17, 5, D, H)
    problem = random_problem(Variant("lstm", peephole=True), sizes, lengths=lengths, reverse=reverse)
    y, (h_n, c_n), _ = plain(problem)
    expected_y, (expected_h_n, expected_c_n), _ = onnx_lstm(problem)
    assert_equal(
        {"y": y, "h_n": h_n, "c_n": c_n}, {"y": expected_y, "h_n": expected_h_n, "c_n": expected_c_n}
    )


def test_peepholes_of_zero_are_none() -> None:
    problem = random_problem(Variant("lstm"), (17, 3, 5, 7))
    zeros = problem.weights._replace(weight_peephole=torch.zeros(21, dtype=torch.float64))
    results = evaluate(problem._replace(weights=zeros))
    del results["grad weight_peephole"]
    assert_equal(results, evaluate(problem))


def test_projection_by_the_identity_is_none() -> None:
    problem = random_problem(Variant("lstm", peephole=True), (17, 3, 5, 7))
    identity = problem.weights._replace(weight_hr=torch.eye(7, dtype=torch.float64))
    results = evaluate(problem._replace(weights=identity))
    del results["grad weight_hr"]
    assert_equal(results, evaluate(problem))
