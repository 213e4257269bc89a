"""A saved forecaster at work: forecast what comes, measure on what came."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from penstock.data.panel import Panel, TimeSeries, read_panel
from penstock.errors import InputError
from penstock.tasks.forecast.config import Config, EvaluateOptions, PredictOptions
from penstock.tasks.forecast.covariates import check_known
from penstock.tasks.forecast.data import (
    Layout,
    Origins,
    Scale,
    Windows,
    check_counts,
    collate,
    columns,
    read_history,
    scale,
    target_steps,
)
from penstock.tasks.forecast.networks import forecaster
from penstock.tasks.streams import chunks
from penstock.training.device import choose_device, use_threads
from penstock.training.measure import measure, to_device
from penstock.training.saved import read_model


class Predictor:
    """A trained forecaster.

    Args:
        folder: of the saved model.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; None for all that torch may use.
        batch_tokens: steps in a batch.

    Attributes:
        horizon: H, the most steps that it can forecast.
        quantiles: those it forecasts; empty for a model of single values.

    Raises:
        InputError: whatever is wrong with the folder.
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", threads: int | None = None, batch_tokens: int = 16_384
    ) -> None:
        saved = read_model(folder, task="forecast")
        self.config = saved.parse_config(Config)
        self.device = choose_device(device)
        self.threads = threads
        self.batch_rows = max(1, batch_tokens // self.config.window)
        for name in ("series.json", "history.json"):
            if name not in saved.assets:
                path = saved.folder / "config.json"
                raise InputError(f"{path}: 'assets' lacks {name}, which a forecaster needs")
        self.layout = Layout.from_json(saved.assets["series.json"], str(saved.folder / "series.json"))
        self.history = read_history(saved.assets["history.json"], str(saved.folder / "history.json"))
        self.horizon = self.config.horizon
        self.quantiles = self.config.levels
        self.model = saved.build(forecaster, self.config)

    def predict(
        self,
        inputs: str | os.PathLike[str] | Mapping[str, Sequence[Any]] | Any | None = None,
        horizon: int | None = None,
    ) -> list[dict[str, Any]]:
        """Forecast the steps that follow a table.

        Args:
            inputs: a file or a table (column name -> values, or a data frame) of the form of the training
                data, with any series; None for the end of the training data.
            horizon: steps; None for as many as the model has.

        Returns:
            for each series, and each step in order: "series", "time" (text), "forecast", and "q0.1" and so on
            for the quantiles.

        Raises:
            InputError: whatever is wrong with the table, or a horizon beyond that of training.
        """
        with use_threads(self.threads):
            panel = self._panel_to_continue(inputs)
            return list(self._rows(panel, self._forecasts(panel), self._steps(horizon)))

    def stream(self, options: PredictOptions) -> Iterator[str]:
        """The lines of the csv file that `penstock predict` writes; the plot is drawn before the first."""
        steps = self._steps(options.horizon)
        with use_threads(self.threads):
            panel = self._panel_to_continue(options.last)
            found = self._forecasts(panel)
        if options.plot is not None:
            from penstock.tasks.forecast.plot import draw  # noqa: PLC0415  (matplotlib is slow to import)

            draw(options.plot, panel, found[:, :steps], self.quantiles, self.config.gap)
        yield _csv_line(["series", "time", "forecast", *map(_column, self.quantiles)])
        for row in self._rows(panel, found, steps):
            yield _csv_line(row.values())

    def evaluate(self, options: EvaluateOptions) -> dict[str, Any]:
        """Measure on a file; see `penstock.tasks.forecast.evaluate`."""
        from penstock.tasks.forecast.baselines import baselines, compare  # noqa: PLC0415  (torchmetrics are slow)

        windows = self._windows_to_measure(options)
        found: dict[str, Any] = {"references": baselines(windows)}
        with use_threads(self.threads):
            found["metrics"] = self._measure(windows)
            if few := compare(windows, options.classical):
                found["comparisons"] = {few.title: {"model": self._measure(few.data), **few.methods}}
        return found

    def _measure(self, windows: Any) -> dict[str, float]:
        from penstock.tasks.forecast.metrics import ForecastMetric  # noqa: PLC0415  (torchmetrics are slow)

        loader = DataLoader(
            windows,
            batch_size=self.batch_rows,
            collate_fn=collate,
        )
        metric = ForecastMetric(self.quantiles, self.model.forecast)
        figures = measure(self.model, metric, loader, self.device)
        return {name: float(value) for name, value in figures.items()}

    def _windows_to_measure(self, options: EvaluateOptions) -> Windows:
        panel = self._panel(options.data)
        examples, scales = [], []
        for number, series in enumerate(panel.series):
            steps = len(series.values)
            first = max(0, steps - options.last_steps) if options.last_steps else 0
            targets = target_steps(self.config, first, steps, options.stride)
            examples.append((number, targets))
            scales.append(self._scale(series, targets[0] - self.config.gap if targets else steps))
        origins = Origins.of(examples)
        if not len(origins):
            raise InputError(
                f"{options.data}: expected a series of more than {self.horizon} steps, the horizon"
            )
        return Windows(panel, scales, self.layout, self.config, origins)

    def _steps(self, horizon: int | None) -> int:
        if horizon is not None and not 1 <= horizon <= self.horizon:
            raise InputError(f"--horizon {horizon}: expected 1 to {self.horizon}, the horizon of training")
        return horizon or self.horizon

    def _panel(self, source: Any) -> Panel:
        if source is None:
            return self.history
        if hasattr(source, "columns") and not isinstance(source, Mapping):
            source = {name: list(source[name]) for name in source.columns}
        names = columns(self.config, self.layout)
        panel = read_panel(source, names, self.layout.frequency, self.config.regularize)
        if self.config.counts:
            check_counts(panel, _name(source))
        return panel

    def _panel_to_continue(self, source: Any) -> Panel:
        """The panel, with what is known of the coming steps."""
        panel = self._panel(source)
        check_known(panel, self.config.gap + self.horizon, _name(source))
        return panel

    def _scale(self, series: TimeSeries, end: int) -> Scale:
        """That of the training data, or for a series that was not there, that of its steps before `end`."""
        known = self.layout.scales.get(series.name)
        return known or scale(series.values[:end], self.layout.season, shift=not self.config.counts)

    @torch.no_grad()
    def _forecasts(self, panel: Panel) -> Tensor:
        """What follows every series, (N, H, Q) float64 as the file has it."""
        ends = [len(series.values) for series in panel.series]
        scales = [self._scale(*pair) for pair in zip(panel.series, ends, strict=True)]
        examples = np.array([[number, end + self.config.gap] for number, end in enumerate(ends)])
        windows = Windows(panel, scales, self.layout, self.config, examples)
        self.model.to(self.device).eval()
        found = []
        for numbers in chunks(range(len(windows)), self.batch_rows):
            batch = to_device(collate([windows[number] for number in numbers]), self.device)
            values = self.model.forecast(self.model(batch), batch).double()
            values = values * batch["deviation"][:, None, None] + batch["mean"][:, None, None]
            found.append(values.cpu())
        return torch.cat(found)

    def _rows(self, panel: Panel, found: Tensor, steps: int) -> Iterator[dict[str, Any]]:
        middle = self.quantiles.index(0.5) if self.quantiles else 0
        for series, values in zip(panel.series, found.tolist(), strict=True):
            ahead = len(series.values) + self.config.gap + np.arange(steps)
            stamps = panel.frequency.stamps(series.start, ahead).tolist()
            for stamp, forecast in zip(stamps, values[:steps], strict=True):
                figures = [float(f"{value:.7g}") for value in forecast]
                row: dict[str, Any] = {"series": series.name, "time": panel.frequency.show(stamp)}
                row["forecast"] = figures[middle]
                if self.quantiles:
                    row |= dict(zip(map(_column, self.quantiles), figures, strict=True))
                yield row


def _name(source: Any) -> str:
    """What an error calls the input."""
    if source is None:
        return "the training data"
    return str(source) if isinstance(source, str | os.PathLike) else "the table"


def _column(quantile: float) -> str:
    return f"q{quantile:g}"


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
