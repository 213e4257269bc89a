"""Forecasts as a PNG file."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from penstock.files import atomic_write
from penstock.tasks.forecast.plot import BLUE, GRID, INK, ORANGE, Picture


def write_image(path: Path, pictures: list[Picture], title: str) -> None:
    """Draw the pictures side by side."""
    across = 1 if len(pictures) == 1 else 2
    down = math.ceil(len(pictures) / across)
    figure = Figure(figsize=(9 if across == 1 else 12, 0.8 + 2.7 * down), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axes, picture in zip(grid, pictures, strict=False):
        _draw(axes, picture)
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png")


def _draw(axes: Axes, picture: Picture) -> None:
    axes.plot(picture.past, picture.history, color=BLUE, linewidth=1.2, label="history")
    few: dict[str, Any] = {"marker": "o", "markersize": 3} if len(picture.coming) < 4 else {}
    axes.plot(picture.coming, picture.forecast, color=ORANGE, linewidth=1.4, label="forecast", **few)
    for band in picture.bands:
        look: dict[str, Any] = {"color": ORANGE, "alpha": 0.2, "linewidth": 0, "label": band.name}
        axes.fill_between(picture.coming, band.low, band.high, **look)
    axes.axvline(picture.past[-1], color="#bbbbbb", linewidth=0.8)
    axes.set_title(picture.name, color=INK, fontsize=10, loc="left")
    axes.grid(color=GRID)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.margins(x=0.01)
    if picture.dated:
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set(fontsize=8, color=INK)
