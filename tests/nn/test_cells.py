"""The one-step cells as drop-ins for torch.nn's, and what they have beyond."""

import copy

import pytest
import torch
from torch import nn

import penstock.nn
from penstock import ops
from tests.nn.test_layers import assert_same, flat

STOCK = [
    ("RNNCell", {}),
    ("RNNCell", {"nonlinearity": "relu", "bias": False}),
    ("LSTMCell", {}),
    ("GRUCell", {}),
]
EXTRA = [("LSTMCell", {"peephole": True}), ("GRUCell", {"reset_after": False})]


@pytest.mark.parametrize("batch", [3, None], ids=["batch", "unbatched"])
@pytest.mark.parametrize(("name", "options"), STOCK, ids=str)
def test_drop_in(name: str, options: dict, batch: int | None) -> None:
    torch.manual_seed(0)
    ours = getattr(penstock.nn, name)(5, 9, dtype=torch.float64, **options)
    torch.manual_seed(0)
    theirs = getattr(nn, name)(5, 9, dtype=torch.float64, **options)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert isinstance(ours, type(theirs))
    rows = (batch,) if batch else ()
    x = torch.randn(*rows, 5, dtype=torch.float64, requires_grad=True)
    states = [
        torch.randn(*rows, 9, dtype=torch.float64, requires_grad=True)
        for _ in range(1 + (name == "LSTMCell"))
    ]
    hx = tuple(states) if len(states) == 2 else states[0]
    results = []
    for cell in (ours, theirs):
        new = flat([cell(x, hx), cell(x)])
        gradients = torch.autograd.grad(sum(t.square().sum() for t in new), [x, *states, *cell.parameters()])  # type: ignore[arg-type]
        results.append([*new, *gradients])
    assert_same(results[0], results[1])


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_a_loop_over_the_cell_is_the_layer(name: str, options: dict) -> None:
    cell = getattr(penstock.nn, name)(5, 9, dtype=torch.float64, **options)
    layer = getattr(penstock.nn, name.removesuffix("Cell"))(5, 9, dtype=torch.float64, **options)
    layer.load_state_dict({f"{n}_l0": p for n, p in cell.state_dict().items()})
    x, state, outputs = torch.randn(6, 3, 5, dtype=torch.float64), None, []
    for step in x:
        state = cell(step, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    assert_same(torch.stack(outputs), layer(x)[0])


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_a_dtype_the_kernels_lack(name: str, options: dict) -> None:
    cell = getattr(penstock.nn, name)(5, 9, **options)
    x = torch.randn(3, 5)
    other = copy.deepcopy(cell).half()
    for got, expected in zip(flat([other(x.half())]), flat([cell(x)]), strict=True):
        torch.testing.assert_close(got.float(), expected, atol=0.03, rtol=0.03)


def test_wrong_arguments() -> None:
    cell = penstock.nn.GRUCell(5, 9)
    for call, error, message in [
        (lambda: cell(torch.zeros(2, 2, 5)), ValueError, "1D or 2D, got 3D"),
        (lambda: cell(torch.zeros(2, 4)), RuntimeError, "got 4, expected 5"),
        (lambda: cell(torch.zeros(2, 5), torch.zeros(3, 9)), RuntimeError, r"shape \(2, 9\), got \(3, 9\)"),
        (lambda: cell(torch.zeros(2, 5).double()), RuntimeError, "dtype"),
    ]:
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_second_derivatives_and_maps(name: str, options: dict) -> None:
    cell = getattr(penstock.nn, name)(3, 4, dtype=torch.float64, **options)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda x: flat([cell(x, cell(x))]), x[0], fast_mode=True)
    h, d_h = flat([cell(x[0])])[0], torch.randn(3, 2, 4, dtype=torch.float64)
    batched = torch.autograd.grad(h, x, d_h, is_grads_batched=True, retain_graph=True)[0]
    assert_same(batched, torch.stack([torch.autograd.grad(h, x, d, retain_graph=True)[0] for d in d_h]))
    mapped = flat([torch.func.vmap(cell)(x)])
    assert_same(mapped, [torch.stack(s) for s in zip(*(flat([cell(own)]) for own in x), strict=True)])


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_a_batched_step_goes_straight_to_the_kernels(name: str, options: dict, monkeypatch) -> None:
    cell = getattr(penstock.nn, name)(5, 9, **options)
    expected = flat([cell(torch.ones(1, 3, 5)[0])])
    monkeypatch.setattr(ops, "run", None)  # the long way
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert_same(flat([cell(torch.ones(3, 5))]), expected)


def test_a_step_in_eval_mode_and_with_a_parametrization() -> None:
    cell = penstock.nn.LSTMCell(3, 4)
    nn.utils.parametrizations.weight_norm(cell, "weight_hh")
    cell.eval()
    x = torch.randn(2, 3, requires_grad=True)
    cell(x, cell(x))[0].sum().backward()
    assert x.grad is not None
    assert cell.parametrizations.weight_hh.original0.grad is not None  # type: ignore[union-attr]
