"""The forecaster's layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.tasks.forecast.model import Forecaster, InstanceNorm, pinball, rising
from tests.tasks.forecast.files import small_config


def batch_of(rows: int, window: int, horizon: int, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(rows, window, generator=draw) * 3 + 5,
        "observed": torch.ones(rows, window),
        "filled": torch.ones(rows, window),
        "targets": torch.randn(rows, horizon, generator=draw),
        "known": torch.ones(rows, horizon),
        "series": torch.arange(rows) % 3,
        "lengths": torch.full((rows,), window),
    }


def build(missing: bool = False, series: int = 2, **options: Any) -> Forecaster:
    torch.manual_seed(0)
    config = small_config(Path("x.csv"), Path("m"), dropout=0.0, **options)
    return Forecaster(config, {}, missing, series).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"segment": 6},
        {"segment": 9, "horizon": 10, "cell": "lstm", "layers": 2, "projection_size": 5},
        {"cell": "rnn", "bidirectional": True, "loss": "mae"},
        {"segment": 6, "series_embedding": True, "loss": "mse", "instance_norm": "last"},
        {"series_embedding": True, "instance_norm": "off", "quantiles": [0.2, 0.5]},
    ],
)
def test_every_kind_of_model_trains(options: dict[str, Any]) -> None:
    model = build(**options)
    batch = batch_of(5, 36, model.config.horizon)
    outputs = model(batch)
    values = len(model.config.quantiles) if model.config.loss == "quantile" else 1
    assert outputs.shape == (5, model.config.horizon, values)
    assert (outputs.diff(dim=2) >= 0).all()
    model.loss(outputs, batch).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, {"segment": 6}])
def test_the_forecast_moves_with_level_and_scale(options: dict[str, Any]) -> None:
    model = build(**options)
    batch = batch_of(4, 36, 12)
    moved = {**batch, "inputs": batch["inputs"] * 7 - 300}
    torch.testing.assert_close(model(moved), model(batch) * 7 - 300, rtol=1e-4, atol=1e-3)


def test_an_unknown_series_has_no_vector() -> None:
    model = build(segment=6, series_embedding=True)
    assert model.decoder.series is not None
    assert not model.decoder.series.weight[0].any()
    one = batch_of(1, 36, 12)
    found = [model({**one, "series": torch.tensor([number])}) for number in (0, 1, 2)]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_instance_norm_takes_statistics_of_observed_values() -> None:
    values = torch.tensor([[0.0, 2.0, 2.0, 6.0]])
    observed, filled = torch.tensor([[0.0, 1, 0, 1]]), torch.tensor([[0.0, 1, 1, 1]])
    found, window = InstanceNorm("mean").apply(values, observed, filled)
    assert (float(window.shift), float(window.scale)) == pytest.approx((4, 2), abs=1e-4)
    assert found[0].tolist() == pytest.approx([0, -1, -1, 1], abs=1e-4)
    found, window = InstanceNorm("last").apply(values, observed, filled)
    assert (found[0].tolist(), float(window.shift), float(window.scale)) == ([0, -4, -4, 0], 6, 1)
    found, window = InstanceNorm("off").apply(values, observed, filled)
    assert torch.equal(found, values)


@pytest.mark.parametrize("loss", ["quantile", "mse", "mae"])
def test_unknown_targets_do_not_count(loss: str) -> None:
    model = build(loss=loss)
    batch = batch_of(3, 36, 12)
    batch["known"][1, 4:] = 0
    outputs = model(batch)
    changed = {**batch, "targets": torch.where(batch["known"] > 0, batch["targets"], 1e6)}
    assert torch.equal(model.loss(outputs, batch), model.loss(outputs, changed))


def test_losses_by_hand() -> None:
    quantiles = torch.tensor([0.1, 0.9])
    assert pinball(torch.tensor([[2.0, 2.0], [-1.0, -1.0]]), quantiles).tolist() == [
        pytest.approx([0.2, 1.8]),
        pytest.approx([0.9, 0.1]),
    ]
    assert (rising(torch.randn(100, 5) * 20).diff(dim=1) >= 0).all()
