"""Windows and parts, index by index."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from penstock.errors import InputError
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.covariates import fill_forward
from penstock.tasks.forecast.data import (
    Layout,
    Windows,
    collate,
    open_prepared,
    prepare,
    scale,
    target_steps,
)


def prepared(
    folder: Path, series: dict[str, list[float]], **options: Any
) -> tuple[Config, Layout, dict[str, Windows]]:
    """The windows of a table without time stamps."""
    folder.mkdir(exist_ok=True)
    rows = zip(*series.values(), strict=True)
    lines = [",".join("" if np.isnan(value) else str(value) for value in row) for row in rows]
    (folder / "data.csv").write_text("\n".join([",".join(series), *lines]) + "\n")
    fields = {"window": 4, "horizon": 2, "data": folder / "data.csv", "output": folder / "m", **options}
    config = Config.model_validate(fields)
    prepare(config, folder)
    layout = Layout.from_json((folder / "series.json").read_text(), "series.json")
    return config, layout, open_prepared(config, folder, layout)


def test_parts_follow_each_other_step_by_step(tmp_path: Path) -> None:
    values = [float(step) for step in range(20)]
    _, layout, parts = prepared(
        tmp_path, {"a": values, "b": values}, train_steps=10, dev_steps=4, test_steps=3
    )
    targets = {part: windows.examples[:].tolist() for part, windows in parts.items()}
    assert targets["train"] == [[s, t] for s in (0, 1) for t in (4, 5, 6, 7, 8)]
    assert targets["dev"] == [[s, t] for s in (0, 1) for t in (10, 11, 12)]
    assert targets["test"] == [[s, t] for s in (0, 1) for t in (14, 15)]
    mean, deviation = float(np.mean(values[:10])), float(np.std(values[:10]))
    assert layout.scales["a"] == pytest.approx((mean, deviation, 1))
    batch = collate([parts["dev"][0]])
    back = {
        name: (batch[name][0].double() * deviation + mean).round().tolist() for name in ("inputs", "targets")
    }
    assert back == {"inputs": [6, 7, 8, 9], "targets": [10, 11]}
    assert batch["series"].tolist() == [1]
    assert batch["known"].tolist() == batch["observed"][:, :2].tolist() == [[1, 1]]


def test_fractions_and_last_steps(tmp_path: Path) -> None:
    values = {"a": [float(step % 7) for step in range(100)]}
    ends = {
        part: (int(windows.examples[0][1]), int(windows.examples[:][-1, 1]) + 2)
        for part, windows in prepared(tmp_path / "1", values)[2].items()
    }
    assert ends == {"train": (4, 70), "dev": (70, 80), "test": (80, 100)}
    parts = prepared(tmp_path / "2", values, dev_steps=10, test_steps=5, stride=3)[2]
    assert parts["train"].examples[:3][:, 1].tolist() == [4, 7, 10]
    assert parts["train"].examples[:][-1, 1] <= 83
    assert parts["dev"].examples[:][:, 1].tolist() == list(range(85, 94))
    assert parts["test"].examples[:][:, 1].tolist() == list(range(95, 99))


def test_a_gap_lies_between_window_and_target(tmp_path: Path) -> None:
    values = [float(step) for step in range(40)]
    _, layout, parts = prepared(tmp_path, {"a": values}, gap=3, horizon=1)
    assert parts["train"].examples[0][1] == 7
    mean, deviation, _ = layout.scales["a"]
    batch = collate([parts["test"][0]])
    assert (batch["inputs"] * deviation + mean).round().tolist() == [[25, 26, 27, 28]]
    assert (batch["targets"] * deviation + mean).round().tolist() == [[32]]


def test_a_short_series_gives_its_last_forecast(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    lines = [f"{name},{step},{step}" for name, count in (("a", 60), ("b", 5)) for step in range(count)]
    path.write_text("id,time,value\n" + "\n".join(lines) + "\n")
    fields = {"data": path, "output": tmp_path / "m", "id_column": "id", "window": 8, "horizon": 1}
    config = Config.model_validate({**fields, "dev_steps": 1, "test_steps": 1})
    prepare(config, tmp_path)
    layout = Layout.from_json((tmp_path / "series.json").read_text(), "series.json")
    parts = open_prepared(config, tmp_path, layout)
    assert [target for series, target in parts["train"].examples[:].tolist() if series == 1] == [2]
    batch = collate([parts["train"][len(parts["train"]) - 1]])
    assert batch["filled"].tolist() == batch["observed"].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]
    assert layout.missing


def test_target_steps_hold_whole_windows_where_they_can(tmp_path: Path) -> None:
    config = Config.model_validate({"data": "d", "output": "m", "window": 4, "horizon": 2, "gap": 1})
    assert list(target_steps(config, 0, 9)) == [5, 6, 7]
    assert list(target_steps(config, 6, 9)) == [6, 7]
    assert list(target_steps(config, 0, 5)) == [3]
    assert list(target_steps(config, 0, 4)) == [2]
    assert list(target_steps(config, 0, 3)) == []


def test_missing_values_are_filled_and_marked(tmp_path: Path) -> None:
    nan = float("nan")
    assert np.array_equal(
        fill_forward(np.array([[nan, 1, nan, nan, 2], [nan, nan, nan, nan, 3.0]])),
        np.array([[nan, 1, 1, 1, 2], [nan, nan, nan, nan, 3.0]]),
        equal_nan=True,
    )
    values = [float(step % 5) for step in range(40)]
    values[30] = values[33] = nan
    whole = [0.0] * 40
    assert not prepared(tmp_path, {"a": values, "b": whole})[1].missing
    values[10] = nan
    _, layout, parts = prepared(tmp_path, {"a": values, "b": whole})
    assert layout.missing
    batch = collate([parts["test"][0]])  # window 28 to 31, targets 32 and 33
    assert batch["observed"].tolist() == [[1, 1, 0, 1]]
    assert batch["inputs"][0, 2] == batch["inputs"][0, 1]
    assert batch["known"].tolist() == [[1, 0]]
    assert torch.isfinite(batch["targets"]).all()


def test_the_scale_knows_the_training_part_alone(tmp_path: Path) -> None:
    values = [float(step % 7) for step in range(50)]
    other = [*values[:35], *(value * 100 for value in values[35:])]
    first = prepared(tmp_path / "1", {"a": values})[1]
    second = prepared(tmp_path / "2", {"a": other})[1]
    assert first == second
    assert Layout.from_json(first.to_json(), "x") == first


def test_scales_by_hand() -> None:
    found = scale(np.array([1, 3, 2, 6, np.nan]), 2)
    assert found == pytest.approx((3, np.sqrt(3.5), 2))  # |2 - 1| and |6 - 3|
    assert scale(np.array([5.0, 5, 5]), 1) == (5, 1, 0)
    assert scale(np.array([np.nan, np.nan]), 1) == (0, 1, 0)
    assert scale(np.array([2.0, 4.0]), 12).naive == 2  # no season: the step before


def test_a_part_without_room_is_said(tmp_path: Path) -> None:
    values = [float(step) for step in range(20)]
    with pytest.raises(InputError, match=r"the dev part of the longest series \(20 steps\) has no room"):
        prepared(tmp_path, {"a": values}, horizon=3, dev_steps=2)
