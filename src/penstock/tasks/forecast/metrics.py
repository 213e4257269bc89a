"""What forecasts are measured by.

All figures are means over the known targets of all series and origins. With e = target - point forecast:

    mse_scaled, mae_scaled   e standardised by the training part, as papers give them
    mae, rmse                e as the file has it
    smape                    200 |e| / (|target| + |forecast|), in percent
    mase                     |e| / the seasonal naive error of the training part (Hyndman & Koehler 2006)
    rse                      sqrt(sum e^2 / sum (target - mean target)^2), over all series (Lai et al. 2018)
    quantile_loss            pinball loss, mean over the quantiles, standardised
    weighted_quantile_loss   2 sum of pinball loss / sum |target|, mean over the quantiles, as the file has it
                             (Salinas et al. 2020, equation 9); the continuous ranked probability score over
                             sum |target|, where there are many quantiles
    coverage_80              share of targets between the quantiles 0.1 and 0.9; so for every such pair
    width_80                 distance between the two, standardised

Dimensions: B batch, H horizon, Q quantiles.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from penstock.tasks.forecast.outputs import intervals, pinball
from penstock.training.job import Batch

_SUMS = ("count", "squared", "absolute", "scaled_squared", "scaled_absolute", "percent", "ratio", "ratios")
_QUANTILE_SUMS = ("pinball", "weighted_pinball", "size")


class ForecastMetric(Metric):
    """The figures above.

    Args:
        levels: the quantiles that are forecast, 0.5 among them; empty where there is a single value, and then
            there are no figures of quantiles.
        forecast: from a model's outputs and the batch to standardised forecasts (B, H, Q), or (B, H, 1); None
            where the outputs are such forecasts.
    """

    def __init__(
        self, levels: list[float] | None = None, forecast: Callable[[Any, Batch], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.levels = levels or []
        self.middle = self.levels.index(0.5) if self.levels else 0
        self.ends = intervals(self.levels)
        self._forecast = forecast
        names = [*_SUMS, *(_QUANTILE_SUMS if self.levels else ())]
        names += [f"{kind}_{share}" for share in self.ends for kind in ("coverage", "width")]
        for name in names:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("spread", torch.zeros(3, dtype=torch.float64), dist_reduce_fx=merged)

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in outputs for a batch of `data.collate`."""
        values = self._forecast(outputs, batch) if self._forecast else outputs
        known = batch["known"].bool()
        deviation, mean, naive = (
            batch[name][:, None].expand(known.shape)[known] for name in ("deviation", "mean", "naive")
        )
        scaled, forecast = batch["targets"].double()[known], values.double()[known]  # (n,) and (n, Q)
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
        self.spread = merged(torch.stack([self.spread, _spread(target)]))
        if self.levels:
            self._add_quantiles(scaled, forecast, target, deviation)

    def _add_quantiles(self, scaled: Tensor, forecast: Tensor, target: Tensor, deviation: Tensor) -> None:
        levels = torch.tensor(self.levels, dtype=torch.float64, device=scaled.device)
        loss = pinball(scaled[:, None] - forecast, levels).mean(1)
        self._add("pinball", loss)
        self._add("weighted_pinball", loss * deviation)
        self._add("size", target.abs())
        for share, (low, high) in self.ends.items():
            inside = (forecast[:, low] <= scaled) & (scaled <= forecast[:, high])
            self._add(f"coverage_{share}", inside.double())
            self._add(f"width_{share}", forecast[:, high] - forecast[:, low])

    def _add(self, name: str, values: Tensor) -> None:
        setattr(self, name, getattr(self, name) + values.sum())

    def compute(self) -> dict[str, Tensor]:
        """The figures by name; without those that would divide by zero."""
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
        if state.spread[2] > 0:
            figures["rse"] = (state.squared / state.spread[2]).sqrt()
        if self.levels:
            figures["quantile_loss"] = state.pinball / count
            if state.size > 0:
                figures["weighted_quantile_loss"] = 2 * state.weighted_pinball / state.size
        for share in self.ends:
            for name in (f"coverage_{share}", f"width_{share}"):
                figures[name] = getattr(self, name) / count
        return figures


def _spread(values: Tensor) -> Tensor:
    """Count, mean, and sum of squared differences to the mean."""
    mean = values.mean() if len(values) else values.new_zeros(())
    return torch.stack([values.new_tensor(float(len(values))), mean, (values - mean).square().sum()])


def merged(parts: Tensor) -> Tensor:
    """That of all values together from those of parts (n, 3), without cancellation (Chan et al. 1979)."""
    counts, means, squares = parts.unbind(1)
    mean = (counts * means).sum() / counts.sum().clamp(min=1)
    return torch.stack([counts.sum(), mean, (squares + counts * (means - mean).square()).sum()])
