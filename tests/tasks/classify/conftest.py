"""Trained models that the tests of classification share."""

from pathlib import Path

import pytest

from penstock.tasks import classify
from tests.tasks.classify.files import long_table, reviews, small_config


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv and test.csv (texts), and steps.csv (series)."""
    folder = tmp_path_factory.mktemp("data")
    reviews(folder / "train.csv", 500, seed=1)
    reviews(folder / "test.csv", 100, seed=2)
    long_table(folder / "steps.csv", 150, seed=3)
    return folder


@pytest.fixture(scope="session")
def text_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts."""
    folder = tmp_path_factory.mktemp("models") / "texts"
    classify.train(
        small_config(data / "train.csv", folder, text="text", label="mood", test=data / "test.csv")
    )
    return folder


@pytest.fixture(scope="session")
def series_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of series."""
    folder = tmp_path_factory.mktemp("models") / "series"
    classify.train(small_config(data / "steps.csv", folder, id="run", time="clock", epochs=6))
    return folder
