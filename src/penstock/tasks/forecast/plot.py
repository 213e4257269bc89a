"""History, forecast and intervals as a picture (PNG), or as a page to zoom and point into (HTML)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from penstock.data.panel import Panel, TimeSeries

BLUE, ORANGE, INK, GRID = "#2a6fbb", "#d9731a", "#333333", "#e6e6e6"
_MOST = 12  # series in a picture
_LEAST_HISTORY = 48  # steps shown, and at least four times the horizon


class Band(NamedTuple):
    """An interval: its name, and its two ends (H,)."""

    name: str
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Picture(NamedTuple):
    """What is drawn of one series.

    Attributes:
        name: of the series.
        dated: whether time is dates, not numbers.
        past, history: the last stamps and values.
        coming, forecast: (H,) each.
        bands: from the widest to the narrowest.
    """

    name: str
    dated: bool
    past: NDArray[Any]
    history: NDArray[np.float64]
    coming: NDArray[Any]
    forecast: NDArray[np.float64]
    bands: list[Band]


def draw(path: Path, panel: Panel, found: Tensor, quantiles: list[float], gap: int) -> None:
    """Draw the last steps of every series (of the first 12), and what follows them.

    Args:
        path: the file, whose name ends in .png or .html.
        panel: N series.
        found: (N, H, Q), the forecasts in the units of the series.
        quantiles: Q of them, 0.5 among them; empty where there is one value a step.
        gap: steps between history and forecast.
    """
    shown = zip(panel.series[:_MOST], found.numpy(), strict=False)
    pictures = [_picture(panel, series, values, quantiles, gap) for series, values in shown]
    few = len(pictures) < len(panel.series)
    title = f"the first {_MOST} of {len(panel.series)} series" if few else ""
    if path.suffix == ".html":
        from penstock.tasks.forecast.plot_page import write_page  # noqa: PLC0415  (plotly is slow to import)

        write_page(path, pictures, title)
    else:
        from penstock.tasks.forecast.plot_image import write_image  # noqa: PLC0415  (so is matplotlib)

        write_image(path, pictures, title)


def _picture(
    panel: Panel, series: TimeSeries, values: NDArray[np.float64], quantiles: Sequence[float], gap: int
) -> Picture:
    past = len(series.values)
    first = max(0, past - max(_LEAST_HISTORY, 4 * len(values)))
    middle = quantiles.index(0.5) if quantiles else 0
    ends = [(low, len(quantiles) - 1 - low) for low in range(middle)]
    return Picture(
        name=series.name,
        dated=panel.frequency.unit != "number",
        past=_times(panel, series, np.arange(first, past)),
        history=series.values[first:],
        coming=_times(panel, series, past + gap + np.arange(len(values))),
        forecast=values[:, middle],
        bands=[
            Band(f"{quantiles[low]:g} to {quantiles[high]:g}", values[:, low], values[:, high])
            for low, high in ends
            if high > middle
        ],
    )


def _times(panel: Panel, series: TimeSeries, steps: NDArray[np.int64]) -> NDArray[Any]:
    stamps = panel.frequency.stamps(series.start, steps)
    return stamps if panel.frequency.unit == "number" else stamps.astype("M8[us]")
