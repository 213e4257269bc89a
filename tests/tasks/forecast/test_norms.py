"""Normalised windows."""

import pytest
import torch

from penstock.tasks.forecast.norms import InstanceNorm

BATCH = {
    "inputs": torch.tensor([[0.0, 2.0, 2.0, 6.0]]),
    "observed": torch.tensor([[0.0, 1, 0, 1]]),
    "filled": torch.tensor([[0.0, 1, 1, 1]]),
    "deviation": torch.tensor([0.5]).double(),
}


@pytest.mark.parametrize(
    ("kind", "normalised", "shift", "scale"),
    [
        ("mean", [0, -1, -1, 1], 4, 2),
        ("last", [0, -4, -4, 0], 6, 1),
        ("off", [0, 2, 2, 6], 0, 1),
        ("counts", [0, 1 / 3, 1 / 3, 1], 0, 6),  # 1 + mean is 3 counts, which are 6 standardised
    ],
)
def test_statistics_are_those_of_observed_values(
    kind: str, normalised: list[float], shift: float, scale: float
) -> None:
    found, window = InstanceNorm(kind)(BATCH)
    assert found[0].tolist() == pytest.approx(normalised, abs=1e-4)
    assert (float(window.shift), float(window.scale)) == pytest.approx((shift, scale), abs=1e-4)
    assert float(window.unit) == 0.5


@pytest.mark.parametrize("kind", ["mean", "last", "off", "counts"])
def test_what_is_taken_out_is_put_back(kind: str) -> None:
    _, window = InstanceNorm(kind)(BATCH)
    values = torch.randn(1, 5, 3)
    torch.testing.assert_close(window.restore(window.remove(values)), values)
    twice = window.repeated(2)
    torch.testing.assert_close(twice.restore(values.repeat(2, 1, 1)), window.restore(values).repeat(2, 1, 1))
