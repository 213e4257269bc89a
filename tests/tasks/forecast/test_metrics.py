"""Figures and baselines against numbers computed by hand."""

from pathlib import Path

import pytest
import torch

from penstock.tasks.forecast.metrics import ForecastMetric, baselines
from tests.tasks.forecast.test_data import prepared


def batch_of(targets: list[list[float]], known: list[list[float]]) -> dict[str, torch.Tensor]:
    """A batch of two series: one standardised by (10, 2), one by (0, 1) and without naive error."""
    return {
        "targets": torch.tensor(targets),
        "known": torch.tensor(known),
        "mean": torch.tensor([10.0, 0.0]).double(),
        "deviation": torch.tensor([2.0, 1.0]).double(),
        "naive": torch.tensor([4.0, 0.0]).double(),
    }


def test_point_figures_by_hand() -> None:
    batch = batch_of([[1.0, -1.0], [3.0, 99.0]], [[1, 1], [1, 0]])
    outputs = torch.tensor([[[0.0], [1.0]], [[4.0], [0.0]]])  # errors 1, -2 and -1; in units 2, -4 and -1
    metric = ForecastMetric()
    metric.update(outputs, batch)
    found = {name: float(value) for name, value in metric.compute().items()}
    targets = [12, 8, 3]  # forecasts 10, 12, 4
    spread = sum((target - 23 / 3) ** 2 for target in targets)
    assert found == pytest.approx(
        {
            "mse_scaled": 6 / 3,
            "mae_scaled": 4 / 3,
            "mae": 7 / 3,
            "rmse": (21 / 3) ** 0.5,
            "smape": (200 * 2 / 22 + 200 * 4 / 20 + 200 * 1 / 7) / 3,
            "mase": (2 / 4 + 4 / 4) / 2,
            "rse": (21 / spread) ** 0.5,
        }
    )


def test_quantile_figures_by_hand() -> None:
    batch = batch_of([[1.0, -1.0], [3.0, 0.0]], [[1, 1], [1, 1]])
    outputs = torch.tensor([[[0.0, 0.5, 2.0], [0.0, 1.0, 2.0]], [[3.0, 3.0, 3.0], [-1.0, 0.0, 1.0]]])
    metric = ForecastMetric([0.1, 0.5, 0.9])
    metric.update(outputs, batch)
    found = metric.compute()
    losses = [0.1 * 1 + 0.5 * 0.5 + 0.1 * 1, 0.9 * 1 + 0.5 * 2 + 0.1 * 3, 0, 0.1 * 1 + 0 + 0.1 * 1]
    assert float(found["quantile_loss"]) == pytest.approx(sum(losses) / 12)
    assert float(found["coverage_80"]) == pytest.approx(3 / 4)
    assert float(found["mae_scaled"]) == pytest.approx((0.5 + 2) / 4)


def test_only_pairs_of_quantiles_have_a_coverage() -> None:
    names = ForecastMetric([0.05, 0.25, 0.5, 0.75, 0.9]).pairs
    assert names == {"coverage_50": (1, 3)}


def test_baselines_by_hand(tmp_path: Path) -> None:
    values = [0.0, 10, 20] * 6 + [1.0, 10, 26, 2.0, 13, 20]
    _, layout, parts = prepared(
        tmp_path, {"a": values}, season=3, train_steps=12, dev_steps=6, test_steps=6, horizon=4
    )
    assert layout.scales["a"].naive == 0
    found = baselines(parts["test"])
    # origin 18: targets 1 10 26 2; 19: 10 26 2 13; 20: 26 2 13 20
    naive = [19, 10, 6, 18, 9, 25, 1, 12, 16, 8, 3, 10]
    seasonal = [1, 0, 6, 2, 0, 6, 1, 3, 6, 1, 3, 0]
    assert found["naive"]["mae"] == pytest.approx(sum(naive) / 12)
    assert found["seasonal naive"]["mae"] == pytest.approx(sum(seasonal) / 12)
    assert found["seasonal naive"]["rmse"] == pytest.approx((sum(x * x for x in seasonal) / 12) ** 0.5)


def test_baselines_know_nothing_of_the_gap(tmp_path: Path) -> None:
    values = [float(step) for step in range(40)]
    _, _, parts = prepared(tmp_path, {"a": values}, season=2, gap=2, horizon=1)
    found = baselines(parts["test"])
    assert found["naive"]["mae"] == pytest.approx(3)
    assert found["seasonal naive"]["mae"] == pytest.approx(4)  # two seasons back: one would lie in the gap
