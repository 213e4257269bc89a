"""History, forecast and intervals as a picture."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from penstock.data.panel import Panel, TimeSeries
from penstock.files import atomic_write

_BLUE, _ORANGE, _INK = "#2a6fbb", "#d9731a", "#333333"
_MOST = 12  # series in a picture
_LEAST_HISTORY = 48  # steps shown, and at least four times the horizon


def draw(path: Path, panel: Panel, found: Tensor, quantiles: list[float], gap: int) -> None:
    """Draw the last steps of every series (of the first 12), and what follows them, into a PNG file.

    Args:
        path: the file.
        panel: N series.
        found: (N, H, Q), the forecasts in the units of the series.
        quantiles: Q of them, 0.5 among them; empty where there is one value a step.
        gap: steps between history and forecast.
    """
    shown = panel.series[:_MOST]
    across = 1 if len(shown) == 1 else 2
    down = math.ceil(len(shown) / across)
    figure = Figure(figsize=(9 if across == 1 else 12, 0.8 + 2.7 * down), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
    values = found.numpy()
    for axes, series, forecast in zip(grid, shown, values, strict=False):
        _draw_series(axes, panel, series, forecast, quantiles, gap)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    if len(panel.series) > _MOST:
        figure.suptitle(f"the first {_MOST} of {len(panel.series)} series", x=0.01, ha="left", fontsize=10)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")


def _draw_series(
    axes: Axes,
    panel: Panel,
    series: TimeSeries,
    forecast: NDArray[np.float64],
    quantiles: list[float],
    gap: int,
) -> None:
    past = len(series.values)
    first = max(0, past - max(_LEAST_HISTORY, 4 * len(forecast)))
    history = _times(panel, series, np.arange(first, past))
    coming = _times(panel, series, past + gap + np.arange(len(forecast)))
    axes.plot(history, series.values[first:], color=_BLUE, linewidth=1.2, label="history")
    middle = quantiles.index(0.5) if quantiles else 0
    marker = {"marker": "o", "markersize": 3} if len(forecast) < 4 else {}
    axes.plot(coming, forecast[:, middle], color=_ORANGE, linewidth=1.4, label="forecast", **marker)
    for low in range(middle):
        high = len(quantiles) - 1 - low
        if high > middle:
            name = f"{quantiles[low]:g} to {quantiles[high]:g}"
            band: dict[str, Any] = {"color": _ORANGE, "alpha": 0.2, "linewidth": 0, "label": name}
            axes.fill_between(coming, forecast[:, low], forecast[:, high], **band)
    axes.axvline(history[-1], color="#bbbbbb", linewidth=0.8)
    axes.set_title(series.name, color=_INK, fontsize=10, loc="left")
    axes.grid(color="#e6e6e6")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.margins(x=0.01)
    if panel.frequency.unit != "number":
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set(fontsize=8, color=_INK)


def _times(panel: Panel, series: TimeSeries, steps: NDArray[np.int64]) -> NDArray[Any]:
    stamps = panel.frequency.stamps(series.start, steps)
    return stamps if panel.frequency.unit == "number" else stamps.astype("M8[us]")
