"""What forecasts are measured by, and the simple forecasts that they are measured beside.

All figures are means over the known targets of all series and origins. With e = target - point forecast:

    mse_scaled, mae_scaled   e standardised by the training part, as papers give them
    mae, rmse                e as the file has it
    smape                    200 |e| / (|target| + |forecast|), in percent
    mase                     |e| / the seasonal naive error of the training part (Hyndman & Koehler 2006)
    rse                      sqrt(sum e^2 / sum (target - mean target)^2), over all series (Lai et al. 2018)
    quantile_loss            pinball loss, mean over the quantiles, standardised
    coverage_80              share of targets between the quantiles 0.1 and 0.9; so for every such pair

Dimensions: B batch, H horizon, Q quantiles, T steps.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from penstock.tasks.forecast.covariates import fill_forward
from penstock.tasks.forecast.data import Windows, collate
from penstock.tasks.forecast.model import pinball
from penstock.training.job import Batch

_CHUNK = 1024  # examples of a baseline measured at a time


class ForecastMetric(Metric):
    """The figures above; those of quantiles only where there are `quantiles`, 0.5 among them."""

    def __init__(self, quantiles: list[float] | None = None) -> None:
        super().__init__()
        self.quantiles = quantiles or []
        self.middle = self.quantiles.index(0.5) if self.quantiles else 0
        self.pairs = _pairs(self.quantiles)
        names = ["count", "squared", "absolute", "scaled_squared", "scaled_absolute", "percent"]
        names += ["ratio", "ratios", "targets", "targets_squared", "pinball"]
        for name in [*names, *self.pairs]:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in standardised forecasts (B, H, Q) and a batch of `data.collate`."""
        known = batch["known"].bool()
        deviation = batch["deviation"][:, None].expand(known.shape)[known]
        mean = batch["mean"][:, None].expand(known.shape)[known]
        naive = batch["naive"][:, None].expand(known.shape)[known]
        scaled = batch["targets"].double()[known]
        forecast = outputs.double()[known]  # (n, Q)
        error = scaled - forecast[:, self.middle]
        target, off = scaled * deviation + mean, (error * deviation).abs()
        size = target.abs() + (forecast[:, self.middle] * deviation + mean).abs()
        self._add("count", torch.ones_like(error))
        self._add("scaled_squared", error.square())
        self._add("scaled_absolute", error.abs())
        self._add("squared", off.square())
        self._add("absolute", off)
        self._add("percent", 200 * off / size.clamp(min=1e-300))
        self._add("ratio", off[naive > 0] / naive[naive > 0])
        self._add("ratios", (naive > 0).double())
        self._add("targets", target)
        self._add("targets_squared", target.square())
        if self.quantiles:
            quantiles = torch.tensor(self.quantiles, dtype=torch.float64, device=error.device)
            self._add("pinball", pinball(scaled[:, None] - forecast, quantiles).mean(1))
        for name, (low, high) in self.pairs.items():
            self._add(name, ((forecast[:, low] <= scaled) & (scaled <= forecast[:, high])).double())

    def _add(self, name: str, values: Tensor) -> None:
        setattr(self, name, getattr(self, name) + values.sum())

    def compute(self) -> dict[str, Tensor]:
        """The figures by name; without `mase` or `rse` where they would divide by zero."""
        state: Any = self
        count = state.count
        figures = {
            "mse_scaled": state.scaled_squared / count,
            "mae_scaled": state.scaled_absolute / count,
            "mae": state.absolute / count,
            "rmse": (state.squared / count).sqrt(),
            "smape": state.percent / count,
        }
        if state.ratios > 0:
            figures["mase"] = state.ratio / state.ratios
        spread = state.targets_squared - state.targets.square() / count
        if spread > 0:
            figures["rse"] = (state.squared / spread).sqrt()
        if self.quantiles:
            figures["quantile_loss"] = state.pinball / count
        return figures | {name: getattr(self, name) / count for name in self.pairs}


def _pairs(quantiles: list[float]) -> dict[str, tuple[int, int]]:
    """The name of every interval from a quantile q to 1 - q, with the places of the two."""
    found = {}
    for low, quantile in enumerate(quantiles):
        for high in range(low + 1, len(quantiles)):
            if abs(quantile + quantiles[high] - 1) < 1e-9:
                found[f"coverage_{100 * (quantiles[high] - quantile):g}"] = (low, high)
    return found


# --- baselines ---

Baseline = Callable[[NDArray[np.float64], int], NDArray[np.float64]]


def baselines(windows: Windows) -> dict[str, dict[str, float]]:
    """The figures of the naive and of the seasonal naive forecast for the same targets.

    "naive" repeats the last value, "seasonal naive" the last season; a value missing there is replaced by the
    one before it. Where a series has no season behind it, the seasonal forecast is the naive one.
    """
    config, season = windows.config, windows.layout.season
    lead = config.gap + 1 + np.arange(config.horizon)  # steps from the last known value to each target
    lags = {"naive": lead}
    if season > 1:
        lags["seasonal naive"] = -(-lead // season) * season
    return {name: _figures(windows, partial(_repeated, lead=lead, lag=lag)) for name, lag in lags.items()}


def smoothing(windows: Windows) -> dict[str, float]:
    """The figures of exponential smoothing (statsmodels), fitted anew before every target step.

    Error, damped trend and season are additive (Holt & Winters); there is no season where it is 1 or where a
    series has fewer than two of them. It is fitted to the last steps before the window's end, up to 20
    seasons or 200 steps, whichever are more, with missing values replaced by the one before them.
    """
    config, season = windows.config, windows.layout.season
    longest = max(200, 20 * season)

    def forecast(values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        end = target - config.gap
        past = values[max(0, end - longest) : end]
        return _smoothed(past[~np.isnan(past)], season, config.gap + config.horizon)[config.gap :]

    return _figures(windows, forecast)


def _smoothed(past: NDArray[np.float64], season: int, steps: int) -> NDArray[np.float64]:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing  # noqa: PLC0415  (slow to import)

    if len(past) < 10:
        return np.full(steps, past[-1] if len(past) else np.nan)
    seasonal = 1 < season <= len(past) // 2
    kind: dict[str, Any] = {"seasonal": "add", "seasonal_periods": season} if seasonal else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an optimum that was not quite reached is still a forecast
        fitted = ExponentialSmoothing(past, trend="add", damped_trend=True, **kind).fit()
        return np.asarray(fitted.forecast(steps))


def _figures(windows: Windows, forecast: Baseline) -> dict[str, float]:
    """The figures of `forecast`, which is given a series with its gaps filled, and a target step."""
    metric = ForecastMetric()
    filled = [fill_forward(series.values) for series in windows.panel.series]
    for batch, examples in _batches(windows):
        outputs = np.stack([forecast(filled[i], target) for i, target in examples])
        standard = (torch.from_numpy(outputs) - batch["mean"][:, None]) / batch["deviation"][:, None]
        usable = ~torch.isnan(standard)
        batch["known"] = batch["known"] * usable
        metric.update(torch.nan_to_num(standard).unsqueeze(2), batch)
    return {name: float(value) for name, value in metric.compute().items()}


def _repeated(
    values: NDArray[np.float64], target: int, lead: NDArray[np.int64], lag: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The values `lag` steps before each step of the horizon, or the last known one where there is none."""
    steps = target + np.arange(len(lag))
    before = steps - lag
    return values[np.where(before >= 0, before, steps - lead)]


def _batches(windows: Windows) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
    for first in range(0, len(windows), _CHUNK):
        numbers = range(first, min(first + _CHUNK, len(windows)))
        yield collate([windows[i] for i in numbers]), windows.examples[first : first + _CHUNK]
