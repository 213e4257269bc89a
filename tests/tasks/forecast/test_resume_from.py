"""A forecaster that is trained further on newer rows."""

import csv
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import penstock
from penstock.cli import main
from penstock.tasks import forecast
from penstock.tasks.forecast.config import Config
from tests.cli.command import penstock as command
from tests.tasks.forecast.files import SHOPS, shops, small_config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sales"
    table = shops(folder.parent / "sales.csv")
    forecast.train(
        small_config(table, folder, **SHOPS, epochs=10, instance_norm="off", series_embedding=True)
    )
    return folder


@pytest.fixture(scope="module")
def newer(model: Path) -> Path:
    """Later rows of the same shops and of another one, which has a kind of its own."""
    table = shops(model.parent / "newer.csv", coming=6, seed=1, shift=240)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows += [{**row, "shop": "d", "kind": "airport"} for row in rows if row["shop"] == "a"]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def test_it_goes_on_from_weights_scales_and_categories(model: Path, newer: Path, tmp_path: Path) -> None:
    """In a process of its own, with nothing but the file, the model and where to write."""
    folder = tmp_path / "further"
    command("train", "forecast", newer, "--resume-from", model, "--output", folder, "--epochs", "3")
    old, new = (json.loads((path / "series.json").read_text()) for path in (model, folder))
    assert list(new["scales"]) == ["a", "b", "c", "d"]
    assert {name: new["scales"][name] for name in "abc"} == old["scales"]
    past, known, static = range(3)
    assert new["covariates"][past] == old["covariates"][past]
    assert new["covariates"][known] == old["covariates"][known]
    assert new["covariates"][static][0]["categories"] == ["city", "village", "airport"]
    stored = json.loads((folder / "config.json").read_text())["config"]
    assert (stored["hidden_size"], stored["learning_rate"], stored["epochs"]) == (24, 0.01, 3)
    assert stored["resume_from"] == str(model)

    metrics = json.loads((folder / "metrics.json").read_text())
    fresh = forecast.train(small_config(newer, tmp_path / "fresh", **SHOPS, epochs=3, instance_norm="off"))
    assert metrics["test"]["mae"] < fresh.metrics["test"]["mae"]


def test_the_first_step_is_that_of_the_model(model: Path, newer: Path, tmp_path: Path) -> None:
    """Without learning, the weights stay those of the model; new rows are that of the unknown."""
    fields = {
        "data": newer,
        "resume_from": model,
        "output": tmp_path / "m",
        "learning_rate": 1e-30,
        "epochs": 1,
    }
    forecast.train(Config.model_validate(fields))
    old, new = (load_file(path / "model.safetensors") for path in (model, tmp_path / "m"))
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        assert (new[name][: len(tensor)] == tensor).all(), name
    kinds = "inputs.static.tables.0.weight"
    assert len(new[kinds]) == len(old[kinds]) + 1
    assert (new[kinds][-1] == old[kinds][0]).all()


def test_the_finished_model_needs_no_other(model: Path, newer: Path, tmp_path: Path) -> None:
    moved = model.rename(tmp_path / "first")
    fields = {"data": newer, "resume_from": moved, "output": tmp_path / "m", "epochs": 1}
    forecast.train(Config.model_validate(fields))
    moved.rename(model)
    assert len(penstock.load(tmp_path / "m").predict()) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--hidden-size", "32"],
            "--hidden-size: {model} has 24, got 32; only a training that does not start",
        ),
        (["--window", "24"], "--window: {model} has 12, got 24"),
        (["--past-columns", "promo"], "--past-columns: {model} has ['visitors'], got ['promo']"),
    ],
)
def test_another_network_is_refused(
    model: Path,
    newer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    base = ["train", "forecast", str(newer), "--resume-from", str(model), "--output", str(tmp_path / "m")]
    assert main([*base, *words]) == 2
    assert message.format(model=model) in capsys.readouterr().err


def test_a_folder_without_a_model_is_said(
    newer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "forecast", str(newer), "--output", str(tmp_path / "m"), "--resume-from"]
    assert main([*words, str(tmp_path / "none")]) == 2
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err
    assert main(["train", "forecast", str(newer), "--resume-from", str(tmp_path)]) == 2
    assert "not a Penstock model" in capsys.readouterr().err
