"""Forecasting as a training job."""

from pathlib import Path
from typing import Any

from penstock.data.batches import EvenBatchSampler
from penstock.tasks.forecast import data
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.covariates import sizes
from penstock.tasks.forecast.data import Layout, collate, open_prepared
from penstock.tasks.forecast.metrics import ForecastMetric, baselines
from penstock.tasks.forecast.model import Forecaster
from penstock.training.job import Batch, BatchSampler, Job, SequenceDataset
from penstock.training.saved import read_model


class ForecastJob(Job):
    """The coming values of every series of a file."""

    task = "forecast"
    lower_is_better = True

    @classmethod
    def prepare(cls, config: Config, folder: Path) -> None:
        data.prepare(config, folder)

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = self._options = config
        self.monitor = "quantile_loss" if config.loss == "quantile" else f"{config.loss}_scaled"
        self._assets = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
        self.layout = Layout.from_json(self._assets["series.json"], "series.json")
        parts = open_prepared(config, folder, self.layout)
        self.train_data, self.dev_data = parts["train"], parts["dev"]
        self._test = parts["test"]
        self.test_data = self._test if len(self._test) else None
        self.model = Forecaster(config, **self.architecture())
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
        return metric_of(self._options)

    def assets(self) -> dict[str, str]:
        return self._assets

    def architecture(self) -> dict[str, Any]:
        calendar = 2 * len(self.layout.frequency.calendar) if self._options.calendar else 0
        return {
            "inputs": sizes(self.layout.covariates, calendar),
            "missing": self.layout.missing,
            "series": len(self.layout.scales),
        }

    def references(self) -> dict[str, dict[str, float]]:
        return baselines(self._test) if len(self._test) else {}


def metric_of(config: Config) -> ForecastMetric:
    """The metric for the outputs of a model of `config`."""
    return ForecastMetric(config.quantiles if config.loss == "quantile" else None)
