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
    collate,
    columns,
    read_history,
    scale,
    target_steps,
)
from penstock.tasks.forecast.model import Forecaster
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
        self.quantiles = self.config.quantiles if self.config.loss == "quantile" else []
        self.model = saved.build(Forecaster, self.config)

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
        from penstock.tasks.forecast.metrics import baselines  # noqa: PLC0415  (torchmetrics are slow to import)

        windows = self._windows_to_measure(options)
        references = baselines(windows)
        with use_threads(self.threads):
            figures = self._measure(windows)
            if options.classical:
                references |= self._classical(windows, options.classical)
        return {"metrics": figures, "references": references}

    def _measure(self, windows: Windows) -> dict[str, float]:
        from penstock.tasks.forecast.job import metric_of  # noqa: PLC0415  (torchmetrics are slow to import)

        loader = DataLoader(
            windows,  # pyright: ignore[reportArgumentType]  (any object with length and items will do)
            batch_size=self.batch_rows,
            collate_fn=collate,
        )
        figures = measure(self.model, metric_of(self.config), loader, self.device)
        return {name: float(value) for name, value in figures.items()}

    def _classical(self, windows: Windows, origins: int) -> dict[str, dict[str, float]]:
        """The figures of exponential smoothing at some origins of every series, and of the model there."""
        from penstock.tasks.forecast.metrics import smoothing  # noqa: PLC0415

        few = windows.thinned(origins)
        return {f"ets, {len(few)} origins": smoothing(few), f"model, {len(few)} origins": self._measure(few)}

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
        return read_panel(source, names, self.layout.frequency, self.config.regularize)

    def _panel_to_continue(self, source: Any) -> Panel:
        """The panel, with what is known of the coming steps."""
        panel = self._panel(source)
        file = isinstance(source, str | os.PathLike)
        name = "the training data" if source is None else str(source) if file else "the table"
        check_known(panel, self.config.gap + self.horizon, name)
        return panel

    def _scale(self, series: TimeSeries, end: int) -> Scale:
        """That of the training data, or for a series that was not there, that of its steps before `end`."""
        known = self.layout.scales.get(series.name)
        return known or scale(series.values[:end], self.layout.season)

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
            batch = collate([windows[number] for number in numbers])
            outputs = self.model(to_device(batch, self.device)).cpu().double()
            found.append(outputs * batch["deviation"][:, None, None] + batch["mean"][:, None, None])
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


def _column(quantile: float) -> str:
    return f"q{quantile:g}"


def _csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
