"""The forecaster's layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.tasks.forecast.direct import DirectForecaster
from penstock.tasks.forecast.model import Forecaster
from penstock.tasks.forecast.networks import forecaster
from tests.tasks.forecast.files import small_config


def batch_of(rows: int, window: int, horizon: int, seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "inputs": torch.randn(rows, window, generator=draw) * 3 + 5,
        "observed": torch.ones(rows, window),
        "filled": torch.ones(rows, window),
        "targets": torch.randn(rows, horizon, generator=draw),
        "deviation": torch.full((rows,), 2.0, dtype=torch.float64),
        "known": torch.ones(rows, horizon),
        "series": torch.arange(rows) % 3,
        "lengths": torch.full((rows,), window),
    }


def with_features(batch: dict[str, torch.Tensor], features: int, past: int = 0) -> dict[str, torch.Tensor]:
    """The batch with so many numbers known in advance, and so many known up to now."""
    draw = torch.Generator().manual_seed(1)
    rows, window, horizon = *batch["inputs"].shape, batch["targets"].shape[1]
    none = torch.zeros(rows, 0)
    return batch | {
        "known_numbers": torch.randn(rows, window + horizon, features, generator=draw),
        "past_numbers": torch.randn(rows, window, past, generator=draw),
        "static_numbers": none,
        "known_codes": none.unsqueeze(1).expand(-1, window + horizon, -1).long(),
        "past_codes": none.unsqueeze(1).expand(-1, window, -1).long(),
        "static_codes": none.long(),
    }


def moved_at(batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
    """Something else is known of a step of the horizon."""
    known = batch["known_numbers"].clone()
    known[:, batch["inputs"].shape[1] + step] += 5
    return {**batch, "known_numbers": known}


DIRECT: dict[str, Any] = {"loss": "gaussian"}
DRAWN: dict[str, Any] = {"loss": "gaussian", "decoder": "autoregressive"}


def build(
    missing: bool = False, series: int = 2, features: int = 0, past: int = 0, **options: Any
) -> Forecaster:
    torch.manual_seed(0)
    config = small_config(Path("x.csv"), Path("m"), dropout=0.0, **options)
    return forecaster(config, inputs={"known": features, "past": past}, missing=missing, series=series).eval()


def forecast(model: Forecaster, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model.forecast(model(batch), batch)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"segment": 6},
        {"segment": 9, "horizon": 10, "cell": "lstm", "layers": 2, "projection_size": 5},
        {"cell": "rnn", "bidirectional": True, "loss": "mae"},
        {"segment": 6, "series_embedding": True, "loss": "mse", "instance_norm": "last"},
        {"series_embedding": True, "instance_norm": "off", "quantiles": [0.2, 0.5]},
        {"loss": "gaussian", "segment": 6},
        {"loss": "student-t", "features": 4},
        {"loss": "negative-binomial", "segment": 6, "features": 4, "horizon": 10},
        {"loss": "gaussian", "decoder": "autoregressive", "features": 4, "series_embedding": True},
        {"loss": "student-t", "decoder": "autoregressive", "cell": "lstm", "layers": 2, "missing": True},
        {"loss": "negative-binomial", "decoder": "autoregressive", "cell": "rnn", "features": 2},
    ],
)
def test_every_kind_of_model_trains(options: dict[str, Any]) -> None:
    model = build(**options)
    batch = with_features(batch_of(5, 36, model.config.horizon), options.get("features", 0))
    if model.config.counts:
        batch["targets"], batch["inputs"] = (batch[name].abs().round() for name in ("targets", "inputs"))
    outputs = model(batch)
    found = model.forecast(outputs, batch)
    assert found.shape == (5, model.config.horizon, max(1, len(model.config.levels)))
    assert torch.isfinite(found).all()
    assert (found.diff(dim=2) >= 0).all()
    model.loss(outputs, batch).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "options",
    [{}, {"segment": 6}, {"loss": "gaussian"}, {"loss": "student-t", "decoder": "autoregressive"}],
)
def test_the_forecast_moves_with_level_and_scale(options: dict[str, Any]) -> None:
    model = build(**options)
    batch = batch_of(4, 36, 12)
    moved = {**batch, "inputs": batch["inputs"] * 7 - 300}
    torch.testing.assert_close(forecast(model, moved), forecast(model, batch) * 7 - 300, rtol=1e-4, atol=1e-3)


def test_an_unknown_series_has_no_vector() -> None:
    model = build(segment=6, series_embedding=True)
    assert isinstance(model, DirectForecaster)
    assert model.decoder.series is not None
    assert not model.decoder.series.weight[0].any()
    one = batch_of(1, 36, 12)
    found = [forecast(model, {**one, "series": torch.tensor([number])}) for number in (0, 1, 2)]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("decoder", [DIRECT, DRAWN], ids=str)
@pytest.mark.parametrize("features", [3])
def test_what_is_known_of_a_coming_step_moves_its_forecast(decoder: dict[str, Any], features: int) -> None:
    model = build(features=features, **decoder)
    batch = with_features(batch_of(2, 36, 12), features)
    change = (forecast(model, moved_at(batch, 7)) - forecast(model, batch)).abs().sum((0, 2))
    assert change[7] > 1e-3
    assert not change[:7].any()


def test_segments_see_what_is_known_of_all_their_steps() -> None:
    model = build(features=2, segment=5, window=35)
    batch = with_features(batch_of(2, 35, 12), 2)
    for step, first, last in ((3, 0, 5), (11, 10, 12)):
        change = (forecast(model, moved_at(batch, step)) - forecast(model, batch)).abs().sum((0, 2)) > 0
        assert change.nonzero().flatten().tolist() == list(range(first, last))


@pytest.mark.parametrize("loss", ["quantile", "mse", "mae", "gaussian", "student-t"])
def test_unknown_targets_do_not_count(loss: str) -> None:
    model = build(loss=loss)
    batch = batch_of(3, 36, 12)
    batch["known"][1, 4:] = 0
    outputs = model(batch)
    changed = {**batch, "targets": torch.where(batch["known"] > 0, batch["targets"], 1e3)}
    assert torch.equal(model.loss(outputs, batch), model.loss(outputs, changed))
