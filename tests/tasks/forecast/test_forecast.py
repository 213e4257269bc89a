"""Forecasting from files to predictions, through its public functions and the command line."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import penstock
from penstock.cli import main
from penstock.errors import InputError
from penstock.tasks import forecast
from penstock.tasks.forecast.config import EvaluateOptions, PredictOptions
from penstock.tasks.forecast.data import collate
from penstock.training.saved import read_model
from tests.cli.command import penstock as command
from tests.tasks.forecast.files import FLAGS, seasonal, small_config, stamps, waves

DRAWN = ["--decoder", "autoregressive", "--loss", "gaussian"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_model_beats_the_naive_forecasts(model: Path) -> None:
    stored = read_model(model).metrics
    test, naive, repeated = (stored[name] for name in ("test", "naive", "seasonal naive"))
    for name in ("mae", "mse_scaled", "mase", "smape", "rse"):
        assert test[name] < 0.93 * repeated[name], name
        assert test[name] < 0.7 * naive[name], name
    assert 0.65 < test["coverage_80"] < 0.92


def test_training_shows_the_simple_forecasts_beside_it(model: Path) -> None:
    card = (model / "README.md").read_text()
    assert "| metric | dev | test | naive | seasonal naive |" in card
    assert "nan" not in card


def test_evaluate_agrees_with_the_end_of_training(model: Path, table: Path) -> None:
    found = forecast.evaluate(model, table, last_steps=100)
    stored = read_model(model).metrics
    assert found["metrics"] == pytest.approx(
        {name: stored["test"][name] for name in found["metrics"]}, abs=1e-4
    )
    assert found["references"]["naive"] == pytest.approx(stored["naive"], abs=1e-4)
    fewer = forecast.evaluate(model, table, last_steps=100, stride=10)
    assert fewer["metrics"]["mae"] == pytest.approx(found["metrics"]["mae"], rel=0.2)


def test_exponential_smoothing_stands_beside_the_model(model: Path, table: Path) -> None:
    found = forecast.evaluate(model, table, last_steps=100, classical=6)
    assert set(found["references"]) == {"naive", "seasonal naive"}
    (same,) = found["comparisons"].values()
    assert list(found["comparisons"]) == ["at the same 6 origins"]
    assert list(same) == ["model", "naive", "seasonal naive", "ets"]
    assert same["ets"]["mae"] < same["seasonal naive"]["mae"]
    assert same["ets"]["mae"] < 1.3 * same["model"]["mae"]
    assert "comparisons" not in forecast.evaluate(model, table, last_steps=20, classical=0)


def test_predict_goes_on_from_the_training_data(model: Path, table: Path) -> None:
    found = penstock.load(model).predict()
    assert len(found) == 24
    assert list(found[0]) == ["series", "time", "forecast", "q0.1", "q0.5", "q0.9"]
    assert found[0]["time"] == stamps(501)[-1] + ":00"
    assert [row["series"] for row in found] == ["north"] * 12 + ["south"] * 12
    assert found == penstock.load(model).predict(table)
    for row in found:
        assert row["q0.1"] <= row["q0.5"] == row["forecast"] <= row["q0.9"]
    coming = waves(512, seed=0)[500:]
    assert abs(np.array([row["forecast"] for row in found[:12]]) - coming[:, 0]).mean() < 1.5


def test_the_future_does_not_reach_the_forecast(model: Path, table: Path, tmp_path: Path) -> None:
    """What stands after the origin may be anything: forecasts from before it keep every bit."""
    lines = table.read_text().splitlines()
    head, past, future = lines[0], lines[1:451], lines[451:]
    spoilt = [line.split(",")[0] + ",123456,-9e9" for line in future]
    (tmp_path / "spoilt.csv").write_text("\n".join([head, *past, *spoilt]) + "\n")
    (tmp_path / "past.csv").write_text("\n".join([head, *past]) + "\n")

    def forecasts(path: Path) -> np.ndarray:
        loaded = penstock.load(model)
        windows = loaded._windows_to_measure(EvaluateOptions.model_validate({"data": path, "last_steps": 62}))
        chosen = [windows[i] for i in range(len(windows)) if windows.examples[i][1] == 450]
        assert len(chosen) == 2
        batch = collate(chosen)
        return loaded.model.forecast(loaded.model.eval()(batch), batch).numpy()

    assert np.array_equal(forecasts(tmp_path / "spoilt.csv"), forecasts(table))
    # and training up to there sees nothing of it
    options = {"train_steps": 380, "dev_steps": 70, "test_steps": 50, "epochs": 1}
    weights = []
    for path in (table, tmp_path / "spoilt.csv"):
        forecast.train(small_config(path, tmp_path / "m", overwrite=True, **options))
        weights.append((tmp_path / "m" / "model.safetensors").read_bytes())
        shutil.rmtree(tmp_path / "m")
    assert weights[0] == weights[1]


def test_series_that_were_not_trained_on(model: Path) -> None:
    hours = stamps(60)
    values = waves(72, seed=7)[:, 0] * 1000 + 5e6
    table = {"date": hours, "elsewhere": list(values[:60]), "gappy": [None, *values[1:59], None]}
    found = penstock.load(model).predict(table, horizon=5)
    assert [row["series"] for row in found] == ["elsewhere"] * 5 + ["gappy"] * 5
    errors = np.array([row["forecast"] for row in found[:5]]) - values[60:65]
    assert abs(errors).mean() < 1500
    assert all(np.isfinite(row["forecast"]) for row in found)
    short = {"date": hours[:3], "new": [1.0, 2.0, 3.0]}
    assert len(penstock.load(model).predict(short)) == 12


def test_the_command_line_from_beginning_to_end(tmp_path: Path) -> None:
    """In processes of their own: train by steps, predict to csv and png, evaluate to JSON."""
    table = seasonal(tmp_path / "hourly.csv", seed=3)
    folder, answers, plot = tmp_path / "model", tmp_path / "next.csv", tmp_path / "next.png"
    words = ["--output", folder, "--season", "12", "--segment", "6", *FLAGS]
    shown = command("train", "forecast", table, *words, "--classical", "3").stdout
    assert re.search(r"at the same 3 origins +model +naive +seasonal naive +ets", shown)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics["comparisons"]["at the same 3 origins"]) == [
        "model",
        "naive",
        "seasonal naive",
        "ets",
    ]
    assert (
        "| at the same 3 origins | model | naive | seasonal naive | ets |"
        in (folder / "README.md").read_text()
    )
    assert metrics["test"]["mae"] < 0.9 * metrics["seasonal naive"]["mae"]

    command("predict", folder, "--horizon", "4", "--output", answers, "--plot", plot)
    rows = rows_of(answers)
    assert [row["time"] for row in rows[:4]] == [stamp + ":00" for stamp in stamps(504)[500:]]
    assert list(rows[0]) == ["series", "time", "forecast", "q0.1", "q0.5", "q0.9"]
    assert plot.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    figures = tmp_path / "figures.json"
    assert "naive" in command("evaluate", folder, table, "--last-steps", "100", "--json", figures).stdout
    assert json.loads(figures.read_text())["metrics"]["mae"] == pytest.approx(
        metrics["test"]["mae"], abs=1e-4
    )


def test_long_tables_points_and_steps(tmp_path: Path) -> None:
    """A long table of differing lengths with gaps, step by step, as a point forecast."""
    lines = []
    for name, count, seed in (("x", 300, 1), ("y", 200, 2)):
        values = waves(count, seed)[:, 0]
        lines += [f"{name},{i},{'' if i % 17 == 5 else f'{values[i]:.3f}'}" for i in range(count)]
    path = tmp_path / "long.csv"
    path.write_text("shop,time,sold\n" + "\n".join(lines) + "\n")
    config = small_config(
        path, tmp_path / "m", id_column="shop", season=12, loss="mae", window=24, cell="lstm"
    )
    report = forecast.train(config)
    assert report.metrics["test"]["mae"] < 0.9 * report.metrics["naive"]["mae"]
    assert "coverage_80" not in report.metrics["test"]
    found = penstock.load(tmp_path / "m").predict()
    assert list(found[0]) == ["series", "time", "forecast"]
    assert [row["time"] for row in found if row["series"] == "y"] == [str(200 + i) for i in range(12)]


def counts(path: Path, steps: int = 400) -> Path:
    """A long csv of two series of counts, a busy and a rare one, with a weekly pattern."""
    draw = np.random.default_rng(0)
    rates = 1 + np.sin(2 * np.pi * np.arange(steps) / 7) * 0.8
    lines = [
        f"{name},{step},{value}"
        for name, level in (("busy", 40), ("rare", 0.7))
        for step, value in enumerate(draw.poisson(level * rates))
    ]
    path.write_text("item,day,sold\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("decoder", ["direct", "autoregressive"])
def test_counts(decoder: str, tmp_path: Path) -> None:
    """Distributions of counts, at once and drawn step by step."""
    path = counts(tmp_path / "counts.csv")
    config = small_config(
        path,
        tmp_path / "m",
        id_column="item",
        time_column="day",
        window=28,
        horizon=7,
        season=7,
        loss="negative-binomial",
        decoder=decoder,
        quantiles=[0.05, 0.5, 0.95],
        samples=40,
        epochs=15,
    )
    report = forecast.train(config)
    assert report.metrics["test"]["mae"] < report.metrics["seasonal naive"]["mae"]
    assert 0.8 < report.metrics["test"]["coverage_90"] <= 1
    found = penstock.load(tmp_path / "m").predict()
    assert found == penstock.load(tmp_path / "m").predict()
    assert all(row["q0.05"] >= 0 for row in found)
    if decoder == "direct":
        assert all(row[name] % 1 == 0 for row in found for name in ("forecast", "q0.05", "q0.95"))
    with pytest.raises(
        InputError, match=r"the table: --loss negative-binomial: .* got -1 in the series 'x' at 1"
    ):
        penstock.load(tmp_path / "m").predict({"item": ["x", "x"], "day": [0, 1], "sold": [2, -1]})


def test_calibration_brings_dev_to_its_share(table: Path, tmp_path: Path) -> None:
    options = {"segment": 6, "season": 12, "epochs": 1}
    forecast.train(small_config(table, tmp_path / "as learned", **options))
    forecast.train(small_config(table, tmp_path / "calibrated", calibrate=True, **options))
    short = tmp_path / "dev.csv"  # the training data up to the end of the dev part, step 400
    short.write_text("\n".join(table.read_text().splitlines()[:401]) + "\n")
    before, after = (
        forecast.evaluate(tmp_path / name, short, last_steps=50, classical=0)["metrics"]
        for name in ("as learned", "calibrated")
    )
    assert abs(before["coverage_80"] - 0.8) > 0.03
    assert after["coverage_80"] == pytest.approx(64 / 78, abs=1e-4)  # 0.8 x 79, rounded up, of 78 forecasts
    assert after["mae"] == before["mae"]


def test_the_page_holds_what_is_drawn(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    list(penstock.load(model).stream(PredictOptions.model_validate({"plot": page})))
    text = page.read_text(encoding="utf-8")
    for name in ("north", "south", "history", "forecast", "0.1 to 0.9"):
        assert f'"{name}"' in text
    assert 'src="http' not in text
    with pytest.raises(
        ValueError, match=r"--plot: expected a file name that ends in .png or .html, got p.pdf"
    ):
        PredictOptions.model_validate({"plot": "p.pdf"})


def test_a_plot_of_one_step_and_of_many_series(model: Path, tmp_path: Path) -> None:
    hours = stamps(60)
    table = tmp_path / "many.csv"
    names = [f"s{i}" for i in range(14)]
    rows = [",".join([hour, *(str(k + i % 3) for i in range(14))]) for k, hour in enumerate(hours)]
    table.write_text("\n".join([",".join(["date", *names]), *rows]) + "\n")
    options = PredictOptions.model_validate({"last": table, "horizon": 1, "plot": tmp_path / "p.png"})
    assert len(list(penstock.load(model).stream(options))) == 15
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quantiles", "0.1,0.9"], "--quantiles: expected rising numbers between 0 and 1 with 0.5 among"),
        (["--quantiles", "0.1,x"], "--quantiles: expected a list of numbers"),
        (["--window", "10", "--segment", "4"], "--window: expected a multiple of --segment 4, got 10"),
        (["--segment", "6", "--bidirectional"], "--bidirectional: expected --segment 1"),
        (["--decoder", "autoregressive"], "--decoder autoregressive: expected --loss gaussian, student-t or"),
        ([*DRAWN, "--segment", "6"], "--decoder autoregressive: expected --segment 1, got 6"),
        ([*DRAWN, "--gap", "2"], "--decoder autoregressive: expected --gap 0, got 2"),
        ([*DRAWN, "--bidirectional"], "--decoder autoregressive: expected --no-bidirectional"),
        (
            ["--loss", "mse", "--calibrate"],
            "--calibrate: expected intervals of continuous values, got --loss mse",
        ),
        (
            ["--loss", "negative-binomial"],
            "hourly.csv: --loss negative-binomial: expected whole numbers from 0, got",
        ),
        (
            ["--loss", "negative-binomial", "--instance-norm", "last"],
            "--instance-norm: expected none with --loss negative-binomial",
        ),
        (["--horizon", "400"], "has no room for a forecast of 400 steps"),
        (["--time-column", "when"], "--time-column: no column 'when'"),
    ],
)
def test_wrong_options_are_said(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    arguments = ["train", "forecast", str(table), "--output", str(tmp_path / "m"), *FLAGS, *words]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_wrong_inputs_to_predict_are_said(model: Path, tmp_path: Path) -> None:
    loaded = penstock.load(model)
    with pytest.raises(InputError, match="--horizon 13: expected 1 to 12, the horizon of training"):
        loaded.predict(horizon=13)
    with pytest.raises(InputError, match="the table: expected columns of one length"):
        loaded.predict({"date": ["2020-01-01"], "a": [1, 2]})
    with pytest.raises(InputError, match="the table, row 2: expected the time stamp 2020-01-01 01:00"):
        loaded.predict({"date": ["2020-01-01", "2020-01-02"], "a": [1, 2]})
    short = tmp_path / "short.csv"
    short.write_text("date,a\n2020-01-01,1\n")
    with pytest.raises(InputError, match="expected a series of more than 12 steps"):
        forecast.evaluate(model, short)


@pytest.mark.parametrize("name", ["series.json", "history.json"])
def test_a_foreign_asset_is_said(model: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    for content in ("{", "[3]", '"x"'):
        (folder / name).write_text(content)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            penstock.load(folder)
