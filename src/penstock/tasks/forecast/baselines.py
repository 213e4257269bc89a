"""The simple forecasts that a model is measured beside: naive, seasonal naive, exponential smoothing."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.tasks.forecast.covariates import fill_forward
from penstock.tasks.forecast.data import Windows, collate
from penstock.tasks.forecast.metrics import ForecastMetric
from penstock.training.job import Batch, Comparison, Figures

_CHUNK = 1024  # examples measured at a time
_LONGEST = 2000  # steps that exponential smoothing is fitted to, if they hold three seasons

Baseline = Callable[[NDArray[np.float64], int], NDArray[np.float64]]


def baselines(windows: Windows) -> dict[str, Figures]:
    """The figures of the naive and of the seasonal naive forecast for the same targets.

    "naive" repeats the last value, "seasonal naive" the last season; a value missing there is replaced by the
    one before it. Where a series has no season behind it, the seasonal forecast is the naive one; where it
    has no value at all, both are the mean of its training part, or for counts 0.
    """
    config, season = windows.config, windows.layout.season
    lead = config.gap + 1 + np.arange(config.horizon)  # steps from the last known value to each target
    lags = {"naive": lead}
    if season > 1:
        lags["seasonal naive"] = -(-lead // season) * season
    return {name: _figures(windows, partial(_repeated, lead=lead, lag=lag)) for name, lag in lags.items()}


def compare(windows: Windows, origins: int) -> Comparison | None:
    """All simple forecasts, "ets" among them (see `smoothing`), at some origins spread evenly; None for 0."""
    if not origins:
        return None
    few = windows.thinned(origins)
    methods = baselines(few) | {"ets": smoothing(few)}
    return Comparison(f"at the same {len(few)} origins", few, methods)


def smoothing(windows: Windows) -> Figures:
    """The figures of exponential smoothing (statsmodels), fitted anew before every target step.

    Error, damped trend and season are additive (Holt & Winters); there is no season where it is 1 or where a
    series has fewer than two of them. It is fitted to the last steps before the window's end: 20 seasons, at
    least 200 steps and at most 2,000, or 3 seasons if that is more. Missing values are replaced by the one
    before them.
    """
    config, season = windows.config, windows.layout.season
    longest = max(200, min(20 * season, _LONGEST), 3 * season)

    def forecast(values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
        end = target - config.gap
        past = values[max(0, end - longest) : end]
        return _smoothed(past[~np.isnan(past)], season, config.gap + config.horizon)[config.gap :]

    return _figures(windows, forecast)


def _smoothed(past: NDArray[np.float64], season: int, steps: int) -> NDArray[np.float64]:
    from statsmodels.tools.sm_exceptions import ConvergenceWarning  # noqa: PLC0415  (slow to import)
    from statsmodels.tsa.holtwinters import ExponentialSmoothing  # noqa: PLC0415

    if len(past) < 10 or not np.ptp(past):
        return np.full(steps, past[-1] if len(past) else np.nan)
    seasonal = 1 < season <= len(past) // 2
    kind: dict[str, Any] = {"seasonal": "add", "seasonal_periods": season} if seasonal else {}
    # Standardised, for a series of large or small numbers is a hard one to fit.
    mean, deviation = past.mean(), past.std()
    # The error of a perfect fit is 0, and statsmodels takes its logarithm.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # an optimum not quite reached is a forecast too
        fitted = ExponentialSmoothing((past - mean) / deviation, trend="add", damped_trend=True, **kind).fit()
        return np.asarray(fitted.forecast(steps)) * deviation + mean


def _figures(windows: Windows, forecast: Baseline) -> Figures:
    """The figures of `forecast`, which is given a series with its gaps filled, and a target step."""
    metric = ForecastMetric()
    filled = [fill_forward(series.values) for series in windows.panel.series]
    for batch, examples in _batches(windows):
        outputs = np.stack([forecast(filled[i], target) for i, target in examples])
        standard = (torch.from_numpy(outputs) - batch["mean"][:, None]) / batch["deviation"][:, None]
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
