"""Figures and baselines against numbers computed by hand."""

import numpy as np
import pytest
import torch

from penstock.tasks.forecast.metrics import ForecastMetric, merged


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
    ends = ForecastMetric([0.05, 0.25, 0.5, 0.75, 0.9]).ends
    assert ends == {"50": (1, 3)}


def test_all_figures_agree_with_numpy() -> None:
    """Several batches of random series, some targets unknown, against the definitions."""
    levels = [0.05, 0.1, 0.5, 0.9, 0.95]
    draw = np.random.default_rng(0)
    rows, horizon = 60, 7
    mean, deviation = draw.normal(1e6, 10, rows), draw.uniform(0.1, 3, rows)
    naive = np.where(np.arange(rows) % 5 == 0, 0, draw.uniform(1, 2, rows))
    targets = draw.normal(size=(rows, horizon)).astype(np.float32)
    forecasts = np.sort(draw.normal(size=(rows, horizon, 5)), 2)
    known = draw.random((rows, horizon)) < 0.8
    metric = ForecastMetric(levels)
    for part in np.array_split(np.arange(rows), 4):
        numbers = {"targets": targets, "known": known, "mean": mean, "deviation": deviation, "naive": naive}
        metric.update(
            torch.from_numpy(forecasts[part]),
            {name: torch.from_numpy(value[part]) for name, value in numbers.items()},
        )
    found = {name: float(value) for name, value in metric.compute().items()}

    y, q = targets[known].astype(float), forecasts[known]
    scale, shift, unit = (np.repeat(part[:, None], horizon, 1)[known] for part in (deviation, mean, naive))
    e, off = y - q[:, 2], np.abs(y - q[:, 2]) * scale
    y_file, q_file = y * scale + shift, q * scale[:, None] + shift[:, None]
    losses = [
        np.maximum(level * (y - q[:, i]), (level - 1) * (y - q[:, i])) for i, level in enumerate(levels)
    ]
    weighted = [2 * (loss * scale).sum() / np.abs(y_file).sum() for loss in losses]
    assert found == pytest.approx(
        {
            "mse_scaled": (e**2).mean(),
            "mae_scaled": np.abs(e).mean(),
            "mae": off.mean(),
            "rmse": (off**2).mean() ** 0.5,
            "smape": (200 * off / (np.abs(y_file) + np.abs(q_file[:, 2]))).mean(),
            "mase": (off[unit > 0] / unit[unit > 0]).mean(),
            "rse": ((off**2).sum() / ((y_file - y_file.mean()) ** 2).sum()) ** 0.5,
            "quantile_loss": np.mean(losses),
            "weighted_quantile_loss": np.mean(weighted),
            "coverage_90": ((q[:, 0] <= y) & (y <= q[:, 4])).mean(),
            "width_90": (q[:, 4] - q[:, 0]).mean(),
            "coverage_80": ((q[:, 1] <= y) & (y <= q[:, 3])).mean(),
            "width_80": (q[:, 3] - q[:, 1]).mean(),
        },
        rel=1e-6,
    )


def test_parts_are_merged_without_cancellation() -> None:
    values = np.random.default_rng(0).normal(1e9, 1, 300)
    parts = [[len(part), part.mean(), part.var() * len(part)] for part in np.split(values, [10, 50])]
    found = merged(torch.tensor([[0.0, 0, 0], *parts], dtype=torch.float64))
    assert found.tolist() == pytest.approx([300, values.mean(), values.var() * 300], rel=1e-8)


def test_what_the_outputs_are_is_the_models_affair() -> None:
    batch = batch_of([[1.0], [3.0]], [[1], [1]])
    metric = ForecastMetric([], lambda outputs, batch: outputs[..., None] + batch["targets"][..., None])
    metric.update(torch.tensor([[2.0], [2.0]]), batch)
    assert float(metric.compute()["mse_scaled"]) == 4
