"""The NumPy layer beside penstock.nn's, which the other tests prove."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import penstock.nn
from penstock.runtime import Layer

CELLS = {
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm with peepholes": ("LSTM", {"peephole": True}),
    "lstm with projection": ("LSTM", {"proj_size": 3}),
    "lstm without biases": ("LSTM", {"bias": False}),
    "gru": ("GRU", {}),
    "gru_reset_before": ("GRU", {"reset_after": False}),
}


def pair(name: str, dtype: torch.dtype = torch.float32):
    kind, options = CELLS[name]
    layer = getattr(penstock.nn, kind)(5, 9, **options).to(dtype)
    weights = {key: value.numpy() for key, value in layer.state_dict().items()}
    return layer, Layer(name.split(maxsplit=1)[0], weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_gives_what_the_torch_layer_gives(name: str, dtype: torch.dtype) -> None:
    layer, ours = pair(name, dtype)
    x, lengths = torch.randn(7, 4, 5, dtype=dtype), torch.tensor([7, 0, 3, 5])
    for given in (None, lengths):
        y, state = layer(x, lengths=given)
        state = state if isinstance(state, tuple) else (state,)
        got = ours(x.numpy(), lengths=None if given is None else given.numpy())
        assert len(got) == 1 + len(state)
        for a, b in zip(got, (y, *state), strict=True):
            np.testing.assert_array_equal(a, b.detach().numpy())


@pytest.mark.parametrize("name", CELLS)
def test_steps_with_the_state_handed_on(name: str) -> None:
    _, ours = pair(name)
    x = np.random.default_rng(0).standard_normal((6, 2, 5), np.float32)
    y, *final = ours(x)
    state: list = []
    for t in range(6):
        step, *state = ours(x[t : t + 1], *state)
        np.testing.assert_allclose(step[0], y[t], rtol=1e-5, atol=1e-6)
    for a, b in zip(state, final, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_in_reverse() -> None:
    layer = penstock.nn.GRU(5, 9)
    weights = {key: value.numpy() for key, value in layer.state_dict().items()}
    x = torch.randn(6, 3, 5)
    y, h_n = Layer("gru", weights, reverse=True)(x.numpy())
    expected, h = layer(x.flip(0))
    np.testing.assert_array_equal(y, expected.flip(0).detach().numpy())
    np.testing.assert_array_equal(h_n, h.detach().numpy())


def test_results_are_arrays_of_their_own() -> None:
    _, ours = pair("lstm")
    x = np.zeros((1, 1, 5), np.float32)
    kept = ours(x)
    first = [a.copy() for a in kept]
    ours(x + 1)
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_needs_no_torch() -> None:
    code = "import sys, penstock.runtime; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


W = {"weight_ih": np.zeros((36, 5), np.float32), "weight_hh": np.zeros((36, 9), np.float32)}


@pytest.mark.parametrize(
    ("cell", "weights", "message"),
    [
        ("elman", W, "cell: expected one of"),
        ("lstm", {"weight_ih": W["weight_ih"]}, "weight_hh"),
        ("lstm", W | {"gamma": W["weight_ih"]}, "got gamma"),
        ("gru", W | {"weight_peephole": np.zeros(27, np.float32)}, "weight_peephole"),
    ],
)
def test_what_cannot_be_a_layer(cell: str, weights: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layer(cell, weights)


def test_wrong_inputs() -> None:
    layer = Layer("lstm", W)
    with pytest.raises(ValueError, match="x: expected shape"):
        layer(np.zeros((2, 1, 4), np.float32))
    with pytest.raises(TypeError, match="x: expected the dtype"):
        layer(np.zeros((2, 1, 5)))
    with pytest.raises(ValueError, match="h0: expected shape"):
        layer(np.zeros((2, 1, 5), np.float32), np.zeros((1, 2, 9), np.float32))
    with pytest.raises(TypeError, match="weights: expected dtype"):
        Layer("lstm", {name: w.astype(np.int32) for name, w in W.items()})
