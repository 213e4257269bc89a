"""Files and a trained model that the tests of the command line share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.cli import main
from tests.tasks.classify.files import FLAGS, long_table, reviews

Fails = Callable[..., str]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv, test.csv and steps.csv."""
    folder = tmp_path_factory.mktemp("data")
    reviews(folder / "train.csv", 500, seed=1)
    reviews(folder / "test.csv", 60, seed=2)
    long_table(folder / "steps.csv", 60, seed=3)
    return folder


@pytest.fixture(scope="session")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts, trained by the command line."""
    folder = tmp_path_factory.mktemp("models") / "texts"
    words = ["train", "classify", data / "train.csv", "--text", "text", "--label", "mood", "--output", folder]
    assert main([*map(str, words), *FLAGS]) == 0
    return folder


@pytest.fixture(scope="session")
def series_model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of series, trained by the command line."""
    folder = tmp_path_factory.mktemp("models") / "series"
    words = ["train", "classify", data / "steps.csv", "--id", "run", "--output", folder]
    assert main([*map(str, words), *FLAGS]) == 0
    return folder


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run `penstock` in this process, expect exit code 2 and one sentence, and return it."""

    def fails(*words: str | Path) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" or "Traceback" not in shown.out
        assert shown.err.startswith("penstock: error: ")
        assert shown.err.endswith("\n")
        assert shown.err.count("\n") == 1
        return shown.err.removeprefix("penstock: error: ").strip()

    return fails
