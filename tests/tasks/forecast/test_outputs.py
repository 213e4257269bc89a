"""Losses, quantiles and samples of every output, against scipy."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from penstock.tasks.forecast.norms import Window
from penstock.tasks.forecast.outputs import DISTRIBUTIONS, Distribution, output_of, pinball, rising

LEVELS = [0.05, 0.5, 0.9]
# Two windows: the shift and scale of each, and the unit, which only counts need.
WINDOW = Window(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]), torch.tensor([4.0, 10.0]))


def reference(loss: str, raw: torch.Tensor, row: int) -> Any:
    """scipy's frozen distribution of one row's three steps, standardised, but over counts for counts."""
    shift, scale, unit = (float(part[row]) for part in WINDOW)
    numbers = raw[row].double()
    if loss == "negative-binomial":
        size = scale * unit
        mean, shape = F.softplus(numbers).numpy().T
        mean, shape = mean * size, shape / size**0.5
        return stats.nbinom(1 / shape, 1 / (1 + mean * shape))
    center = numbers[:, -2].numpy() * scale + shift
    width = F.softplus(numbers[:, -1]).numpy() * scale + 1e-3
    if loss == "gaussian":
        return stats.norm(center, width)
    return stats.t(2 + F.softplus(numbers[:, 0]).numpy(), center, width)


def drawn(loss: str) -> tuple[Distribution, torch.Tensor]:
    output = DISTRIBUTIONS[loss](LEVELS)
    return output, torch.randn(2, 3, output.numbers, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loss", DISTRIBUTIONS)
def test_quantiles_are_those_of_scipy(loss: str) -> None:
    output, raw = drawn(loss)
    found = output.quantiles(raw, WINDOW)
    assert found.shape == (2, 3, 3)
    for row in range(2):
        unit = float(WINDOW.unit[row]) if loss == "negative-binomial" else 1
        wanted = np.stack([reference(loss, raw, row).ppf(level) for level in LEVELS], 1)
        np.testing.assert_allclose(found[row] * unit, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", ["gaussian", "student-t"])
def test_likelihoods_are_those_of_scipy(loss: str) -> None:
    output, raw = drawn(loss)
    targets = torch.tensor([[0.5, 1.0, 7.0], [-2.0, -1.5, 0.0]])
    found = output.loss(raw, WINDOW, targets)
    for row in range(2):
        wanted = -reference(loss, raw, row).logpdf(targets[row].numpy())
        np.testing.assert_allclose(found[row], wanted, rtol=1e-5)


def test_likelihoods_of_counts_are_those_of_scipy_however_large_they_are() -> None:
    output, raw = drawn("negative-binomial")
    raw[:, 2, 1] = -12  # hardly any more variance than a Poisson distribution has
    counts = torch.tensor([[0.0, 3.0, 12.0], [1.0, 40.0, 0.0]])
    found = output.loss(raw, WINDOW, counts / WINDOW.unit[:, None])
    for row in range(2):
        wanted = -reference("negative-binomial", raw, row).logpmf(counts[row].numpy())
        np.testing.assert_allclose(found[row], wanted, rtol=1e-3)


@pytest.mark.parametrize("loss", DISTRIBUTIONS)
def test_samples_have_the_quantiles(loss: str) -> None:
    output, raw = drawn(loss)
    torch.manual_seed(0)
    many = torch.stack([output.sample(raw, WINDOW) for _ in range(4000)])
    quantiles = output.quantiles(raw, WINDOW)
    for place, level in enumerate(LEVELS):
        assert ((many <= quantiles[..., place]).double().mean(0) - level > -0.03).all()
        assert ((many < quantiles[..., place]).double().mean(0) - level < 0.03).all()


def test_quantiles_and_points_learn_their_error() -> None:
    raw, targets = torch.randn(2, 3, 3), torch.randn(2, 3)
    values = rising(raw) * WINDOW.scale[:, None, None] + WINDOW.shift[:, None, None]
    output = output_of("quantile", LEVELS)
    assert torch.equal(output.quantiles(raw, WINDOW), values)
    losses = [
        torch.where(targets > values[..., i], level * off, (1 - level) * off)
        for i, level in enumerate(LEVELS)
        for off in [(targets - values[..., i]).abs()]
    ]
    torch.testing.assert_close(output.loss(raw, WINDOW, targets), sum(losses) / 3)
    point = raw[..., :1]
    error = targets - WINDOW.restore(point)[..., 0]
    torch.testing.assert_close(output_of("mse", LEVELS).loss(point, WINDOW, targets), error**2)
    torch.testing.assert_close(output_of("mae", LEVELS).loss(point, WINDOW, targets), error.abs())
    assert output_of("mae", LEVELS).levels == []


def test_losses_by_hand() -> None:
    quantiles = torch.tensor([0.1, 0.9])
    assert pinball(torch.tensor([[2.0, 2.0], [-1.0, -1.0]]), quantiles).tolist() == [
        pytest.approx([0.2, 1.8]),
        pytest.approx([0.9, 0.1]),
    ]
    assert (rising(torch.randn(100, 5) * 20).diff(dim=1) >= 0).all()
