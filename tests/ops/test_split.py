"""Float32 products by tiles: each number is split into three of bfloat16.

Accuracy in general and the same bits for any number of threads are proved where those of all instruction sets
are; here is what splitting could spoil.
"""

import copy

import pytest
import torch
from torch import Tensor

import penstock.nn
from penstock import _native

pytestmark = pytest.mark.skipif("amx" not in _native.instruction_sets(), reason="this processor has no tiles")

LAYERS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"peephole": True}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
]


@pytest.fixture
def by_tiles():
    _native.set_instruction_set("amx")
    yield
    _native.set_instruction_set("auto")


def results(layer, x: Tensor, scale: float = 1.0) -> list[Tensor]:
    """y and the gradients of x and of the parameters."""
    torch.manual_seed(1)
    x = x.detach().requires_grad_()
    y, _ = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], scale * torch.randn(y.shape).to(y.dtype))]


def of_whole_numbers(layer, x: Tensor, scale: float = 1.0) -> list[Tensor]:
    _native.set_instruction_set("avx512")
    exact = results(layer, x, scale)
    _native.set_instruction_set("amx")
    return exact


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize(("name", "options"), LAYERS, ids=str)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, 3.4e38])
@pytest.mark.parametrize("where", ["x", "weight_ih_l0", "weight_hh_l0"])
def test_an_infinity_has_no_parts(name: str, options: dict, value: float, where: str) -> None:
    """Nor has what rounds to one: such a call is computed with whole numbers."""
    torch.manual_seed(0)
    layer, x = getattr(penstock.nn, name)(33, 35, **options), torch.randn(5, 20, 33)
    (x[2, 3] if where == "x" else layer.get_parameter(where).data[4])[7] = value
    for got, expected in zip(results(layer, x), of_whole_numbers(layer, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("by_tiles")
def test_an_infinite_gradient_has_no_parts() -> None:
    layer, x = penstock.nn.LSTM(33, 35), torch.randn(5, 20, 33)
    for got, expected in zip(results(layer, x, 1e39), of_whole_numbers(layer, x, 1e39), strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FFFFFFF, 0x7F800001, -1])
def test_not_a_number_stays_in_its_row(bits: int) -> None:
    """Whatever its bits: rounding adds to them, and must not make a number of them."""
    layer, x = penstock.nn.LSTM(33, 35), torch.randn(5, 20, 33)
    expected, _ = layer(x)
    x.view(torch.int32)[2, 3, 7] = bits
    assert x[2, 3, 7].isnan()
    got, _ = layer(x)
    others = [row for row in range(20) if row != 3]
    torch.testing.assert_close(got[:, others], expected[:, others])
    assert got[2:, 3].isnan().all()


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize("power", [-90, -60, 60, 90])
def test_numbers_of_any_size(power: int) -> None:
    """Inputs of 2^power met by weights of 2^-power: the same bits."""
    torch.manual_seed(0)
    layer, x = penstock.nn.GRU(65, 40), torch.randn(7, 37, 65)
    scaled = copy.deepcopy(layer)
    with torch.no_grad():
        scaled.get_parameter("weight_ih_l0").mul_(2.0**-power)
    y, _ = layer(x)
    got, _ = scaled(x * 2.0**power)
    torch.testing.assert_close(got, y, rtol=0, atol=0)


def test_large_calls_take_tiles_unless_told_otherwise() -> None:
    """By the size of a call alone: the same call has the same bits."""
    torch.manual_seed(0)
    assert _native.instruction_set() == "auto"
    for rows, hidden, tiles in ((32, 128, True), (8, 128, False), (32, 32, False)):
        layer, x = penstock.nn.LSTM(16, hidden), torch.randn(4, rows, 16)
        automatic, _ = layer(x)
        _native.set_instruction_set("amx" if tiles else "avx512")
        named, _ = layer(x)
        _native.set_instruction_set("avx512" if tiles else "amx")
        other, _ = layer(x)
        _native.set_instruction_set("auto")
        assert torch.equal(automatic, named)
        assert not torch.equal(automatic, other)
