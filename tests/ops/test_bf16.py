"""bfloat16: operands of the products are rounded, everything else is float32."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import penstock.nn
from penstock import _native
from penstock.ops import is_native

SETS = _native.bf16_instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="this processor has no products of bfloat16")

CELLS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"peephole": True}),
    ("LSTM", {"proj_size": 5}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
]
SIZES = [
    (1, 1, 1, 1),
    (7, 3, 5, 9),
    (13, 7, 33, 45),
    (5, 40, 64, 64),
    (3, 100, 17, 48),
    (300, 2, 31, 16),
    (3, 2, 32, 64),
    (1, 8, 4, 32),
]
"""T, B, D, H: odd ones, whole tiles, more rows than a tile, more pairs than a chunk, few whole panels."""


@pytest.fixture(params=SETS)
def bf16_set(request: pytest.FixtureRequest):
    _native.set_bf16_instruction_set(request.param)
    yield request.param
    _native.set_bf16_instruction_set(SETS[0])


def results(layer, x: Tensor, **options) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y, state = layer(x, **options)
    outputs = [y, *(state if isinstance(state, tuple) else (state,))]
    torch.manual_seed(1)
    grads = [torch.randn(o.shape).to(o.dtype) for o in outputs]
    return [*outputs, *torch.autograd.grad(outputs, [x, *layer.parameters()], grads)]


def relative(got: Tensor, exact: Tensor) -> float:
    return ((got.double() - exact).norm() / exact.norm().clamp(min=1e-6)).item()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("name", "options"), CELLS, ids=str)
def test_results_are_those_of_rounded_numbers(name: str, options: dict, size: tuple, bf16_set: str) -> None:
    """Near the exact results for the same rounded weights and inputs: a product of bfloat16 numbers is
    exact in float32, so what is lost is the rounding of states and gradients, 2^-9 each. A relu near its
    edge that rounding takes to the other side loses its whole gradient."""
    bound = 0.1 if "nonlinearity" in options else 0.03
    T, B, D, H = size
    torch.manual_seed(0)
    if options.get("proj_size", 0) >= H:
        pytest.skip("a projection must be smaller than the hidden size")
    layer = getattr(penstock.nn, name)(D, H, bidirectional=True, **options).bfloat16()
    exact = copy.deepcopy(layer).double()
    x = torch.randn(T, B, D).bfloat16()
    lengths = torch.randint(1, T + 1, (B,))
    got = results(layer, x, lengths=lengths)
    expected = results(exact, x.double(), lengths=lengths)
    names = ["y", "h", "c", "dx"] if name == "LSTM" else ["y", "h", "dx"]
    for what, a, b in zip(names + [n for n, _ in layer.named_parameters()], got, expected, strict=True):
        assert a.dtype == torch.bfloat16
        assert relative(a, b) < bound, what


def test_every_set_gives_nearly_the_same(bf16_set: str) -> None:
    torch.manual_seed(0)
    layer = penstock.nn.LSTM(20, 30).bfloat16()
    x = torch.randn(9, 4, 20).bfloat16()
    got = results(layer, x)
    _native.set_bf16_instruction_set(SETS[-1])
    for a, b in zip(got, results(layer, x), strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("size", [(9, 40, 33, 48), (12, 1, 64, 256), (300, 3, 16, 128)], ids=str)
def test_the_same_bits_for_any_number_of_threads(size: tuple, threads: int, bf16_set: str) -> None:
    T, B, D, H = size
    torch.manual_seed(0)
    layer = penstock.nn.LSTM(D, H).bfloat16()
    x = torch.randn(T, B, D).bfloat16()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = results(layer, x)
    torch.set_num_threads(threads)
    got = results(layer, x)
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_not_a_number_stays_in_its_row(bf16_set: str) -> None:
    layer = penstock.nn.LSTM(8, 20).bfloat16()
    x = torch.randn(5, 6, 8).bfloat16()
    expected, _ = layer(x)
    x[2, 3] = torch.nan
    got, _ = layer(x)
    others = [0, 1, 2, 4, 5]
    assert torch.equal(got[:, others], expected[:, others])
    assert got[2:, 3].isnan().all()


def test_packed_sequences(bf16_set: str) -> None:
    layer = penstock.nn.GRU(6, 10, num_layers=2).bfloat16()
    x = torch.randn(7, 3, 6).bfloat16()
    packed, _ = layer(pack_padded_sequence(x, [7, 4, 2]))
    padded, _ = layer(x, lengths=[7, 4, 2])
    assert torch.equal(packed.data, pack_padded_sequence(padded, [7, 4, 2]).data)


def test_bfloat16_is_native_here() -> None:
    assert is_native([torch.empty(1, dtype=torch.bfloat16)])


def test_inputs_in_any_memory(bf16_set: str) -> None:
    """Rows far apart, a state that is one row for all, a gradient that is one number for all."""
    layer = penstock.nn.GRU(6, 10, batch_first=True).bfloat16()
    wide = torch.randn(4, 9, 12).bfloat16()
    h0 = torch.randn(1, 1, 10).bfloat16().expand(1, 4, 10)
    for x in (wide[..., 3:9], wide[..., ::2], wide.transpose(0, 1)[:, :4, :6]):
        state = h0 if len(x) == 4 else h0.new_zeros(1, len(x), 10)
        y, _ = layer(x, state)
        expected, _ = layer(x.contiguous(), state.contiguous())
        assert torch.equal(y, expected)
        weight = layer.get_parameter("weight_ih_l0")
        (got,) = torch.autograd.grad(y.sum(), weight)
        assert torch.equal(got, torch.autograd.grad(expected, weight, torch.ones_like(y))[0])


def test_all_arrays_must_be_bfloat16() -> None:
    x, h, w = torch.zeros(1, 1, 2).bfloat16(), torch.zeros(1, 1, 2), torch.zeros(6, 2).bfloat16()
    with pytest.raises(TypeError, match="h0: expected the dtype of x"):
        _native.layer_forward("gru", 1, (w, w), x, h, None, None, None, False, 1, False, False)


def test_refused_beside_float64() -> None:
    w = torch.zeros(6, 2, dtype=torch.bfloat16)
    arguments = (None, None, None, None, False, 1, False, False)
    with pytest.raises(TypeError, match="weight_ih: expected the dtype of x"):
        _native.layer_forward("gru", 1, (w, w), torch.zeros(1, 1, 2).double(), *arguments)
