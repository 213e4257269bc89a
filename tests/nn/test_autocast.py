"""torch.autocast on the CPU: what is computed in the lower precision, and in what gradients come back."""

import pytest
import torch
from torch import Tensor, nn

import penstock.nn
from tests.nn.test_cells import EXTRA as EXTRA_CELLS
from tests.nn.test_cells import STOCK as STOCK_CELLS
from tests.nn.test_layers import EXTRA, STOCK, flat

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
DTYPES = [torch.bfloat16, torch.float16]


def assert_near(got: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    """As near as values of `dtype` and sums of some of them can be."""
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, atol=0.03 * max(1, float(b.detach().abs().max())), rtol=0.05)


def gradients(module: nn.Module, outputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(sum(o.float().sum() for o in outputs), list(module.parameters())))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["padded", "states", "ragged", "packed"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_layers(name: str, options: dict, dtype: torch.dtype, form: str) -> None:
    torch.manual_seed(0)
    layer = getattr(penstock.nn, name)(5, 9, num_layers=2, bidirectional=True, **options)
    x, lengths = torch.randn(6, 4, 5), [6, 0, 2, 3]

    def run(lower: bool) -> list[Tensor]:
        with torch.autocast("cpu", dtype=dtype, enabled=lower):
            if form == "packed":
                rows = nn.utils.rnn.pack_padded_sequence(x, [6, 2, 3, 1], enforce_sorted=False)
                y, final = layer(rows)
                return flat([y.data, final])
            if form == "ragged":
                return flat([layer(x, lengths=lengths)])
            y, final = layer(x[:3])
            return flat([layer(x[3:], final)]) if form == "states" else flat([y, final])

    expected, got = run(lower=False), run(lower=True)
    assert_near(got, expected, dtype)
    assert_near(gradients(layer, got), gradients(layer, expected), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "options"), [*STOCK_CELLS, *EXTRA_CELLS], ids=str)
def test_cells(name: str, options: dict, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cell = getattr(penstock.nn, name)(5, 9, **options)
    for x in (torch.randn(3, 5), torch.randn(5)):
        expected = flat([cell(x, cell(x))])
        with torch.autocast("cpu", dtype=dtype):
            got = flat([cell(x, cell(x))])  # the second call's states are lower already, its input is not
        assert_near(got, expected, dtype)
        assert_near(gradients(cell, got), gradients(cell, expected), torch.float32)


def test_cell_states_of_every_step() -> None:
    layer = penstock.nn.LSTM(5, 9)
    with torch.autocast("cpu"):
        y, _, (c_steps,) = layer(torch.randn(6, 4, 5), return_cell_states=True)
    assert y.dtype == c_steps.dtype == torch.bfloat16


def test_a_mix_of_types_is_as_good_as_one() -> None:
    layer, x = penstock.nn.GRU(5, 9), torch.randn(6, 4, 5)
    with torch.autocast("cpu"):
        expected, _ = layer(x)
        assert torch.equal(layer(x.bfloat16())[0], expected)


def test_float64_and_what_lies_outside_stay_as_they_are() -> None:
    layer, x = penstock.nn.GRU(5, 9), torch.randn(6, 4, 5)
    expected, _ = layer(x)
    with torch.autocast("cpu"):
        assert layer.double()(x.double())[0].dtype == torch.float64
        layer.float()
        with torch.autocast("cpu", enabled=False):
            assert torch.equal(layer(x)[0], expected)
    assert torch.equal(layer(x)[0], expected)


def test_a_whole_model_trains() -> None:
    torch.manual_seed(0)
    embed, layer, head = nn.Embedding(20, 8), penstock.nn.LSTM(8, 16, bidirectional=True), nn.Linear(32, 20)
    parameters = [*embed.parameters(), *layer.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    words = torch.randint(20, (12, 4))
    losses = []
    for _ in range(30):
        with torch.autocast("cpu"):
            loss = nn.functional.cross_entropy(head(layer(embed(words))[0]).flatten(0, 1), words.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in parameters)
