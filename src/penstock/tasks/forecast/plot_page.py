"""Forecasts as an HTML file, which needs nothing beside it and no network."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from penstock.files import atomic_write
from penstock.tasks.forecast.plot import BLUE, GRID, INK, ORANGE, Picture

_BAND = "rgba(217, 115, 26, 0.2)"


def write_page(path: Path, pictures: list[Picture], title: str) -> None:
    """Draw the pictures side by side; one legend shows and hides parts of all of them."""
    across = 1 if len(pictures) == 1 else 2
    down = math.ceil(len(pictures) / across)
    names = [picture.name for picture in pictures]
    figure = make_subplots(down, across, subplot_titles=names, vertical_spacing=0.25 / down)
    for place, picture in enumerate(pictures):
        row, column = place // across + 1, place % across + 1
        for trace in _traces(picture, first=place == 0):
            figure.add_trace(trace, row=row, col=column)
        figure.add_vline(
            _json(picture.past)[-1],
            line={"color": "#bbbbbb", "width": 1},
            row=row,  # pyright: ignore[reportArgumentType]  (its annotation names the word "all" alone)
            col=column,  # pyright: ignore[reportArgumentType]
        )
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 14}},
        font={"color": INK},
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 0.99,
            "yanchor": "top",
            "yref": "container",
        },
        height=140 + 300 * down,
        margin={"t": 80},
        hovermode="x unified",
    )
    figure.update_annotations(font={"size": 14})
    figure.update_xaxes(gridcolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)
    with atomic_write(path) as file:
        figure.write_html(file, include_plotlyjs=True)


def _traces(picture: Picture, first: bool) -> list[go.Scatter]:
    """History, bands and forecast; only those of the `first` picture stand in the legend."""
    coming = _json(picture.coming)

    def trace(name: str, x: list[Any], y: np.ndarray, **look: Any) -> go.Scatter:
        usual = {"name": name, "legendgroup": name, "showlegend": first, "mode": "lines"}
        return go.Scatter(x=x, y=_json(y), **usual | look)

    found = [trace("history", _json(picture.past), picture.history, line={"color": BLUE, "width": 1.5})]
    for band in picture.bands:
        edge: dict[str, Any] = {"line": {"width": 0}, "hovertemplate": "%{y}"}
        found.append(trace(band.name, coming, band.low, **edge, showlegend=False))
        found.append(trace(band.name, coming, band.high, **edge, fill="tonexty", fillcolor=_BAND))
    mode = "lines+markers" if len(coming) < 4 else "lines"
    found.append(trace("forecast", coming, picture.forecast, mode=mode, line={"color": ORANGE, "width": 2}))
    return found


def _json(values: np.ndarray) -> list[Any]:
    """Numbers, None for missing ones, or dates as text."""
    if values.dtype.kind == "M":
        return np.datetime_as_string(values, unit="s").tolist()
    return [None if math.isnan(value) else value for value in values.tolist()]
