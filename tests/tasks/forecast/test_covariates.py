"""Covariates by their roles: what they are worth, what is not seen, what is missing."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import penstock
from penstock.cli import main
from penstock.errors import InputError
from penstock.tasks import forecast
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.covariates import Covariate, Encoder
from penstock.tasks.forecast.data import Layout, Windows, collate, open_prepared, prepare
from penstock.tasks.forecast.inputs import CategoryEmbeddings, Inputs
from penstock.training.saved import read_model
from tests.tasks.forecast.files import SHOPS, shops, small_config

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shops(tmp_path_factory.mktemp("data") / "sales.csv", coming=6)


@pytest.fixture(scope="module", params=[{}, {"segment": 3}], ids=["steps", "segments"])
def model(request: pytest.FixtureRequest, sales: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sales"
    forecast.train(small_config(sales, folder, **SHOPS, epochs=12, instance_norm="off", **request.param))
    return folder


def read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table(rows: Rows) -> dict[str, list[str]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def forecasts(model: Path, rows: Rows) -> np.ndarray:
    return np.array([row["forecast"] for row in penstock.load(model).predict(table(rows))])


def test_what_is_known_in_advance_makes_forecasts_better(model: Path) -> None:
    figures = read_model(model).metrics
    assert figures["test"]["mae"] < 0.35 * figures["naive"]["mae"]


def test_the_coming_rows_of_the_training_file_are_gone_on_from(model: Path, sales: Path) -> None:
    found = penstock.load(model).predict()
    assert [row["series"] for row in found] == [name for name in "abc" for _ in range(6)]
    assert found == penstock.load(model).predict(sales)
    assert found[0]["time"] == "2021-08-29"


def test_nothing_from_the_future_reaches_the_model(model: Path, sales: Path) -> None:
    """Targets and past covariates behind the origin may be anything; what is known of the horizon may not."""

    def outputs(rows: Rows) -> np.ndarray:
        loaded = penstock.load(model)
        panel = loaded._panel(table(rows))
        scales = [loaded.layout.scales[series.name] for series in panel.series]
        examples = np.array([[number, 200] for number in range(3)])
        windows = Windows(panel, scales, loaded.layout, loaded.config, examples)
        batch = collate([windows[i] for i in range(3)])
        return loaded.model.forecast(loaded.model.eval()(batch), batch).numpy()

    rows = read(sales)
    per_shop = len(rows) // 3

    def changed(first: int, **values: str) -> Rows:
        return [{**row, **values} if i % per_shop >= first else row for i, row in enumerate(rows)]

    true = outputs(rows)
    for values in ({"sold": "99999"}, {"visitors": "-5e6"}, {"sold": "-1e9", "visitors": ""}):
        assert outputs(changed(200, **values)).tobytes() == true.tobytes()
        assert outputs(changed(199, **values)).tobytes() != true.tobytes()
    for values in ({"promo": "yes"}, {"price": "9"}, {"promo": "never seen"}, {"price": ""}):
        assert outputs(changed(206, **values)).tobytes() == true.tobytes()
        assert outputs(changed(205, **values)).tobytes() != true.tobytes()


def test_training_sees_nothing_behind_its_part(sales: Path, tmp_path: Path) -> None:
    """Scales, categories and weights are those of the training part and of dev, whatever the rest says."""
    rows = read(sales)
    per_shop = len(rows) // 3
    spoilt = [
        {**row, "sold": "1e6", "visitors": "-7", "promo": "perhaps", "price": "1000"}
        if i % per_shop >= 200
        else row
        for i, row in enumerate(rows)
    ]
    with (tmp_path / "spoilt.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(spoilt)
    options = {**SHOPS, "train_steps": 170, "dev_steps": 30, "test_steps": 40, "epochs": 1}
    weights = []
    for number, path in enumerate((sales, tmp_path / "spoilt.csv")):
        forecast.train(small_config(path, tmp_path / str(number), **options))
        weights.append((tmp_path / str(number) / "model.safetensors").read_bytes())
        layout = (tmp_path / str(number) / "series.json").read_text()
        assert "perhaps" not in layout
    assert weights[0] == weights[1]


def test_missing_values_short_series_and_new_categories_need_no_option(model: Path, sales: Path) -> None:
    rows = read(sales)
    holes = [
        {
            **row,
            **{name: "" for k, name in enumerate(("sold", "visitors", "promo", "price")) if (i + k) % 7 == 0},
        }
        for i, row in enumerate(rows)
    ]
    assert np.isfinite(forecasts(model, holes)).all()
    new = [{**row, "shop": "d", "kind": "airport", "promo": "maybe"} for row in rows[235:246]]
    found = forecasts(model, new)  # five steps, the window has twelve
    assert len(found) == 6
    assert np.isfinite(found).all()


def test_rows_missing_for_the_horizon_are_said(model: Path, sales: Path) -> None:
    rows = read(sales)
    with pytest.raises(
        InputError,
        match=r"the table: the series 'a': expected 6 rows behind its last value, which tell promo, price in "
        r"advance, got 4",
    ):
        forecasts(model, rows[:244])
    with pytest.raises(InputError, match=r"the table: --known-columns: no column 'price'"):
        forecasts(model, [{name: row[name] for name in row if name != "price"} for row in rows])
    with pytest.raises(InputError, match=r"row 3, column 'price': expected a number, got 'dear'"):
        forecasts(model, [*rows[:2], {**rows[2], "price": "dear"}, *rows[3:]])
    with pytest.raises(
        InputError, match=r"row 9: --static-columns kind: expected one value for each 'shop', got"
    ):
        forecasts(model, [*rows[:8], {**rows[8], "kind": "barge"}, *rows[9:]])


def test_repeated_and_left_out_rows_with_covariates(model: Path, sales: Path, tmp_path: Path) -> None:
    rows = read(sales)
    broken = [*rows[:100], rows[99], *rows[105:]]
    with pytest.raises(InputError, match=r"row 101: the time stamp 2021-04-10 repeats .*--regularize"):
        forecasts(model, broken)
    path = tmp_path / "broken.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(broken)
    config = small_config(path, tmp_path / "m", **SHOPS, regularize=True, epochs=1)
    forecast.train(config)
    found = penstock.load(tmp_path / "m").predict()
    assert len(found) == 18
    layout = Layout.from_json((tmp_path / "m" / "series.json").read_text(), "series.json")
    assert [column.missing for column in layout.covariates.known] == [False, True]
    assert set(layout.covariates.known[0].categories or []) == {"no", "yes"}


def test_a_wide_table_with_covariates(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    holiday = draw.integers(0, 3, 206)
    lines = ["time,north,south,holiday,wind"]
    for i in range(206):
        values = f"{holiday[i] * 5 + i % 4},{holiday[i] * 50 - i % 4},{holiday[i]},{i % 9}"
        lines.append(f"{i},{values}" if i < 200 else f"{i},,,{holiday[i]},")
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(lines) + "\n")
    options = {"known_columns": ["holiday"], "past_columns": ["wind"], "categorical_columns": ["holiday"]}
    config = small_config(
        path, tmp_path / "m", **options, horizon=6, window=12, epochs=15, instance_norm="off"
    )
    report = forecast.train(config)
    assert report.metrics["test"]["mae"] < 0.5 * report.metrics["naive"]["mae"]
    assert [row["series"] for row in penstock.load(tmp_path / "m").predict()] == ["north"] * 6 + ["south"] * 6
    layout = Layout.from_json((tmp_path / "m" / "series.json").read_text(), "series.json")
    assert sorted(layout.covariates.known[0].categories or []) == ["0", "1", "2"]


def test_one_target_reads_another(tmp_path: Path) -> None:
    """A target may be a past covariate as well, and then all series see it."""
    draw = np.random.default_rng(1)
    leader = draw.normal(0, 1, 300)
    lines = ["time,leader,follower", *(f"{i},{leader[i]},{leader[i - 1]}" for i in range(1, 300))]
    path = tmp_path / "pair.csv"
    path.write_text("\n".join(lines) + "\n")
    options = {"horizon": 1, "window": 4, "epochs": 15, "instance_norm": "off", "loss": "mae"}
    alone = forecast.train(small_config(path, tmp_path / "1", target=["follower"], **options))
    both = forecast.train(
        small_config(path, tmp_path / "2", target=["follower"], past_columns=["leader"], **options)
    )
    assert both.metrics["test"]["mae"] < 0.3 * alone.metrics["test"]["mae"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--known-columns", "sold"], "--known-columns sold: the column is already that of --target"),
        (["--known-columns", "promo", "--past-columns", "promo"], "promo: the column is already that of"),
        (["--known-columns", "weather"], "--known-columns: no column 'weather'; the columns are 'shop'"),
        (["--categorical-columns", "price"], "--categorical-columns price: the column is no covariate"),
        (["--known-columns", "day"], "--known-columns day: the column is already that of --time-column"),
    ],
)
def test_wrong_roles_are_said(
    sales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    base = ["train", "forecast", str(sales), "--output", str(tmp_path / "m"), "--id-column", "shop"]
    assert main([*base, "--time-column", "day", "--target", "sold", *words]) == 2
    assert message in capsys.readouterr().err


def test_static_columns_need_an_id(sales: Path, tmp_path: Path) -> None:
    config = Config.model_validate({"data": sales, "output": tmp_path / "m", "static_columns": "size"})
    with pytest.raises(InputError, match="--static-columns needs --id-column"):
        forecast.train(config)


def test_the_encoding_by_hand() -> None:
    nan = float("nan")
    columns = [
        Covariate("a", mean=10, deviation=2),
        Covariate("b", categories=["x", "y"]),
        Covariate("c", mean=1, deviation=1, missing=True),
    ]
    encoder = Encoder(columns, {"b": ["y", "new", "x"]})
    values = np.array([[nan, 12, nan, 8], [0, 1, 2, nan], [2, nan, 3, nan]])
    assert encoder.numbers(values).tolist() == [[0, 1, 0], [1, 1, 1], [1, 2, 0], [-1, 2, 1]]
    assert encoder.codes(values).tolist() == [[2], [0], [1], [0]]


def test_the_windows_of_a_prepared_table_by_hand(tmp_path: Path) -> None:
    """What stands at each step of window and horizon, with a gap, and a series shorter than the window."""
    lines = ["id,time,y,known,past"]
    for name, steps in (("a", 40), ("b", 11)):
        lines += [f"{name},{i},{i},{100 + i},{200 + i}" for i in range(steps)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    fields: dict[str, Any] = {"data": tmp_path / "t.csv", "output": tmp_path / "m", "id_column": "id"}
    fields |= {"target": "y", "known_columns": "known", "past_columns": "past"}
    config = Config.model_validate(
        {**fields, "window": 8, "horizon": 2, "gap": 3, "dev_steps": 4, "test_steps": 2}
    )
    prepare(config, tmp_path)
    layout = Layout.from_json((tmp_path / "series.json").read_text(), "series.json")
    windows = open_prepared(config, tmp_path, layout)["test"]
    assert windows.examples[:].tolist() == [[0, 38], [1, 9]]
    batch = collate([windows[0], windows[1]])
    known, past = layout.covariates.known[0], layout.covariates.past[0]
    numbers = (batch["known_numbers"][..., 0] * known.deviation + known.mean).round().tolist()
    assert numbers[0] == [127, 128, 129, 130, 131, 132, 133, 134, 138, 139]
    assert numbers[1][2:] == [100, 101, 102, 103, 104, 105, 109, 110]
    numbers = (batch["past_numbers"][..., 0] * past.deviation + past.mean).round().tolist()
    assert numbers[0] == list(range(227, 235))
    assert batch["past_numbers"][1, :2].tolist() == [[0], [0]]


def test_categories_are_sometimes_trained_as_never_seen() -> None:
    torch.manual_seed(0)
    embeddings = CategoryEmbeddings([(3, 2)])
    codes = torch.ones(1000, 1, dtype=torch.int64)
    vectors = embeddings(codes)
    replaced = (vectors == embeddings.get_parameter("tables.0.weight")[0]).all(1).sum()
    assert 20 < replaced < 90
    assert torch.equal(
        embeddings.eval()(codes), embeddings.get_parameter("tables.0.weight")[1].expand(1000, -1)
    )


def test_no_inputs_leave_the_batch_alone() -> None:
    batch = {"inputs": torch.zeros(2, 3)}
    assert Inputs()(batch) is batch


def test_evaluate_reads_covariates(model: Path, sales: Path) -> None:
    found = forecast.evaluate(model, sales, last_steps=40)
    assert found["metrics"]["mae"] < 0.5 * found["references"]["naive"]["mae"]
