"""The operators as torch sees them, and what they refuse."""

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch.library import opcheck

from penstock import _native, ops
from penstock.cells import Weights
from penstock.ops.recurrence import _directions
from tests.reference import VARIANTS, Variant, random_problem


def arguments(variant: Variant, *, directions: int = 2, lengths=None, batch_first=False, **tensors) -> tuple:
    problem = random_problem(variant, (4, 3, 5, 17)).map(lambda t: t.requires_grad_())
    state = [t.detach().expand(directions, *t.shape).clone().requires_grad_() for t in problem.state]
    h0, c0 = [*state, None][:2]
    weights = [w for w in problem.weights if w is not None] * directions
    x = problem.x.detach().transpose(0, 1).clone().requires_grad_() if batch_first else problem.x
    return (x, h0, c0, weights, lengths, None, variant.name, directions, batch_first, c0 is not None, True)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_opcheck(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # poisoned outputs never compare equal
    opcheck(torch.ops.penstock.layer.default, arguments(variant))


def test_opcheck_ragged_batch_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lengths = torch.tensor([4, 0, 2])
    args = arguments(Variant("lstm", peephole=True), lengths=lengths, batch_first=True)
    # The reserve holds rows for the steps that run only; the rest of it is never written.
    opcheck(
        torch.ops.penstock.layer.default,
        args,
        test_utils=["test_schema", "test_autograd_registration", "test_faketensor"],
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lengths": torch.tensor([1, 5, 2])}, ValueError, "values from 0 to .* 4, got 5 at index 1"),
        ({"lengths": torch.tensor([1, -1, 2])}, ValueError, "got -1 at index 1"),
        ({"lengths": torch.tensor([1, 2])}, ValueError, r"lengths: expected shape \(3,\), got \(2,\)"),
        ({"lengths": torch.tensor([1.0, 2.0, 3.0])}, TypeError, "lengths: expected a contiguous int64"),
        ({"h0": torch.zeros(1, 2, 17)}, ValueError, r"h0: expected shape \(3, 17\), got \(2, 17\)"),
        ({"h0": torch.zeros(1, 3, 17).double()}, TypeError, "h0: expected the dtype of x"),
        ({"x": torch.zeros(4, 3, 6)}, ValueError, r"x: expected shape \(4, 3, 5\), got \(4, 3, 6\)"),
        ({"x": torch.zeros(4, 3, 5).half()}, TypeError, "x: expected dtype float32 or float64"),
        ({"cell": "elman"}, KeyError, "elman"),
    ],
)  # fmt: skip
def test_wrong_arguments(change: dict, error: type[Exception], message: str) -> None:
    problem = random_problem(Variant("gru"), (4, 3, 5, 17)).to(torch.float32)
    given = {"x": problem.x, "h0": None, "lengths": None, "cell": "gru"} | change
    with pytest.raises(error, match=message):
        ops.layer(
            given["x"], given["h0"], None, [problem.weights], cell=given["cell"], lengths=given["lengths"]
        )


def test_wrong_batch_sizes() -> None:
    weights = [random_problem(Variant("gru"), (1, 1, 5, 3)).weights]
    x = torch.zeros(5, 5, dtype=torch.float64)
    for sizes, message in [([3, 1], "sum of 5 rows, got 4"), ([2, 3], "never rise"), ([5, 0], "positive")]:
        with pytest.raises(ValueError, match=message):
            ops.layer(x, None, None, weights, cell="gru", batch_sizes=torch.tensor(sizes))


def test_native_takes_numpy_and_refuses_a_wrong_shape() -> None:
    weights = [np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32), None, None, None, None]
    y, h_n = np.full((4, 2, 1), np.nan, np.float32), np.full((2, 1), np.nan, np.float32)
    call: dict[str, Any] = {
        "cell": "gru", "weights": weights, "x": np.ones((4, 2, 2), np.float32), "h0": None, "c0": None,
        "y": y, "h_n": h_n, "c_n": None, "cell_states": None, "reserve": None, "lengths": None,
        "batch_sizes": None, "reverse": False, "threads": 1,
    }  # fmt: skip
    _native.forward(**call)
    assert not y.any()
    assert not h_n.any()
    call["y"] = np.zeros((4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"y: expected shape \(4, 2, 1\), got \(4, 2, 2\)"):
        _native.forward(**call)


def test_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*baseline, got sse9"):
        _native.set_instruction_set("sse9")


def _result() -> torch.Tensor:
    problem = random_problem(Variant("lstm"), (17, 13, 33, 65)).to(torch.float32)
    return ops.layer(problem.x, None, None, [problem.weights], cell="lstm").y


def test_several_threads_at_once() -> None:
    expected, results = _result(), []
    threads = [threading.Thread(target=lambda: results.append(_result())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(torch.equal(r, expected) for r in results)


def _in_child(queue, threads: int) -> None:
    torch.set_num_threads(threads)
    queue.put(_result().double().sum().item())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_after_threads_ran_in_the_parent() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = _result().double().sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, 2))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
    torch.set_num_threads(before)


def test_weights_are_told_apart_by_shape() -> None:
    for variant in VARIANTS:
        weights = random_problem(variant, (1, 1, 3, 5)).weights
        flat = [w for w in weights if w is not None]
        (named,) = _directions(flat, 1)
        assert all(a is b for a, b in zip(named, weights, strict=True)), variant
        assert isinstance(named, Weights)
