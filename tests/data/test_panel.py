"""Tables to series over regular time."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.data.frequency import Frequency, parse_stamp
from penstock.data.panel import Columns, Panel, read_panel
from penstock.errors import InputError

_HOURLY = Frequency("microsecond", 3_600_000_000)
_WIDE = "date,a,b\n2020-01-01 00:00,1,10\n2020-01-01 01:00,,20\n2020-01-01 02:00,3,NaN\n"
_LONG = "shop,day,sold\nx,2020-01-01,1\ny,2020-02-01,5\nx,2020-01-02,2\ny,2020-02-02,6\nx,2020-01-03,3\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def shown(panel: Panel) -> dict[str, list[float | None]]:
    return {
        series.name: [None if np.isnan(value) else float(value) for value in series.values]
        for series in panel.series
    }


def test_a_wide_table(tmp_path: Path) -> None:
    panel = read_panel(write(tmp_path / "wide.csv", _WIDE), Columns())
    assert panel.frequency == _HOURLY
    assert shown(panel) == {"a": [1, None, 3], "b": [10, 20, None]}
    assert {series.start for series in panel.series} == {parse_stamp("2020-01-01")}


def test_a_compressed_table_and_one_in_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "wide.csv.gz", "wt", encoding="utf-8") as file:
        file.write(_WIDE)
    expected = {"a": [1, None, 3], "b": [10, 20, None]}
    assert shown(read_panel(tmp_path / "wide.csv.gz", Columns())) == expected
    table = {
        "date": np.arange("2020-01-01", "2020-01-01T03", dtype="M8[h]").astype("M8[s]"),
        "a": [1, None, 3],
        "b": [10.0, 20.0, float("nan")],
    }
    assert shown(read_panel(table, Columns())) == expected


def test_parquet_with_nulls_and_dates(tmp_path: Path) -> None:
    dates = np.arange("2020-01-01", "2020-01-04", dtype="M8[D]").astype("M8[us]")
    pq.write_table(pa.table({"when": dates, "a": [1.5, None, 3.5]}), tmp_path / "wide.parquet")
    panel = read_panel(tmp_path / "wide.parquet", Columns(time="when"))
    assert shown(panel) == {"a": [1.5, None, 3.5]}
    assert panel.frequency == Frequency("microsecond", 24 * 3_600_000_000)


def test_a_long_table_of_differing_lengths(tmp_path: Path) -> None:
    panel = read_panel(write(tmp_path / "long.csv", _LONG), Columns(id="shop", time="day", target=("sold",)))
    assert shown(panel) == {"x": [1, 2, 3], "y": [5, 6]}
    assert panel.frequency.show(panel.series[1].start) == "2020-02-01"


@pytest.mark.parametrize("name", ["plain.txt", "plain.csv"])
def test_numbers_without_header_or_time(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "0.5,1\n0.25,2\n0.125,3\n")
    panel = read_panel(path, Columns())
    assert panel.frequency == Frequency("number", 1)
    assert shown(panel) == {"1": [0.5, 0.25, 0.125], "2": [1, 2, 3]}
    assert shown(read_panel(path, Columns(header=True))) == {"0.5": [0.25, 0.125], "1": [2, 3]}


def test_dates_in_the_first_column_are_time_whatever_its_name(tmp_path: Path) -> None:
    panel = read_panel(write(tmp_path / "t.csv", _WIDE.replace("date", "Zeit")), Columns())
    assert list(shown(panel)) == ["a", "b"]


def test_regularize_fills_and_averages(tmp_path: Path) -> None:
    text = "date,a\n2020-01-01 03:00,9\n2020-01-01 00:00,1\n2020-01-01 01:00,2\n2020-01-01 01:00,4\n"
    path = write(tmp_path / "t.csv", text + "2020-01-01 04:00,5\n2020-01-01 05:00,6\n")
    assert shown(read_panel(path, Columns(), regularize=True)) == {"a": [1, 3, None, 9, 5, 6]}


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            "date,a\n2020-01-01,1\n2020-01-02,2\n2020-01-02,3\n",
            Columns(),
            r"t\.csv, line 4: the time stamp 2020-01-02 repeats that of the row before; --regularize",
        ),
        (
            "date,a\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n2020-01-05,3\n",
            Columns(),
            r"line 5: expected the time stamp 2020-01-04, one step after the row before, got 2020-01-05",
        ),
        ("date,a\n2020-01-01,1\nsoon,2\n", Columns(), r"line 3: expected a date or a time stamp.*got 'soon'"),
        ("time,a\n1,1\n2,2\n2.5,2\n", Columns(), r"line 4: expected a whole number, got '2\.5'"),
        (_WIDE.replace("20\n", "twenty\n"), Columns(), "line 3, column 'b': expected a number, got 'twenty'"),
        (_WIDE.replace("20\n", "inf\n"), Columns(), "line 3, column 'b': expected a finite number, got inf"),
        (_WIDE.replace(",20\n", "\n"), Columns(), "line 3: expected 3 columns, got 2"),
        (_WIDE.replace("b", "a"), Columns(), "the column 'a' appears more than once"),
        (_WIDE, Columns(time="when"), "--time-column: no column 'when'; the columns are 'date', 'a', 'b'"),
        (_WIDE, Columns(id="shop"), "--id-column: no column 'shop'"),
        (_LONG.replace("\n", ",0\n").replace("sold,0", "sold,x"), Columns("shop", "day"), "--target"),
        ("date,a\n", Columns(), "expected rows, got none"),
        ("date\n2020-01-01\n", Columns(), "expected a column a series beside the time column"),
        ("date,a\n2020-01-01,1\n", Columns(), "expected a series of at least two time stamps, got one"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, columns: Columns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_panel(write(tmp_path / "t.csv", text), columns)


def test_another_kind_of_time_than_the_model_s_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "time,a\n1,1\n2,2\n")
    with pytest.raises(InputError, match=r"t\.csv: expected dates as time stamps, got whole numbers"):
        read_panel(path, Columns(), _HOURLY)
