"""Trained models that the tests of forecasting share."""

from pathlib import Path

import pytest

from penstock.tasks import forecast
from tests.tasks.forecast.files import seasonal, small_config


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide csv of two noisy seasonal series of 500 hours."""
    return seasonal(tmp_path_factory.mktemp("data") / "hourly.csv")


@pytest.fixture(scope="session")
def model(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of quantiles, by segments."""
    folder = tmp_path_factory.mktemp("models") / "hourly"
    forecast.train(small_config(table, folder, segment=6, season=12, calendar=True))
    return folder
