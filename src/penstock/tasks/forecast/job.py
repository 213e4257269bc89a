"""Forecasting as a training job."""

from pathlib import Path
from typing import Any

import torch

from penstock.data.batches import EvenBatchSampler
from penstock.tasks.forecast import data
from penstock.tasks.forecast.baselines import baselines, compare
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.covariates import sizes
from penstock.tasks.forecast.data import Layout, collate, open_prepared
from penstock.tasks.forecast.metrics import ForecastMetric
from penstock.tasks.forecast.networks import forecaster
from penstock.training.job import Batch, BatchSampler, Comparison, Figures, Job, SequenceDataset
from penstock.training.loading import measuring_loader
from penstock.training.saved import read_model

_MOST_DRAWN = 500  # dev windows for which paths are drawn after every epoch
_MOST_CALIBRATED = 10_000  # dev windows that intervals are calibrated on


class ForecastJob(Job):
    """The coming values of every series of a file."""

    task = "forecast"
    lower_is_better = True

    @classmethod
    def prepare(cls, config: Config, folder: Path) -> None:
        data.prepare(config, folder)

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = self._options = config
        self.monitor = "quantile_loss" if config.levels else f"{config.loss}_scaled"
        self._assets = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
        self.layout = Layout.from_json(self._assets["series.json"], "series.json")
        parts = open_prepared(config, folder, self.layout)
        drawn = config.decoder == "autoregressive"
        self._dev, self._test = parts["dev"], parts["test"]
        self.train_data = parts["train"]
        self.dev_data = self._dev.thinned(_MOST_DRAWN) if drawn else self._dev
        self.test_data = self._test if len(self._test) else None
        self.model = self._forecaster = forecaster(config, **self.architecture())
        if config.resume_from is not None:
            read_model(config.resume_from).load_weights(self.model, grow=True)

    def batches(self, data: SequenceDataset, *, shuffle: bool, rank: int, world_size: int) -> BatchSampler:
        config = self._options
        rows = max(1, min(config.batch_rows, config.batch_tokens // (config.window // config.segment)))
        return EvenBatchSampler(
            len(data), rows, shuffle=shuffle, seed=config.seed, rank=rank, world_size=world_size
        )

    def collate(self, examples: list[dict[str, Any]]) -> Batch:
        return collate(examples)

    def metric(self) -> ForecastMetric:
        return ForecastMetric(self._options.levels, self._forecaster.forecast)

    def assets(self) -> dict[str, str]:
        return self._assets

    def architecture(self) -> dict[str, Any]:
        calendar = 2 * len(self.layout.frequency.calendar) if self._options.calendar else 0
        return {
            "inputs": sizes(self.layout.covariates, calendar),
            "missing": self.layout.missing,
            "series": len(self.layout.scales),
        }

    def complete(self, device: torch.device) -> None:
        """Calibrate the intervals on the dev data."""
        most = min(len(self.dev_data), _MOST_CALIBRATED)
        self._forecaster.calibrate(measuring_loader(self, self._dev.thinned(most)), device)

    def references(self) -> dict[str, Figures]:
        return baselines(self._test)

    def comparison(self) -> Comparison | None:
        return compare(self._test, self._options.classical)
