"""Series from .ts files and long tables, contiguous or not; their mistakes; and scaling."""

import csv
import gzip
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from penstock.data.series import Scaler, Series, SeriesColumns, read_series, series_columns
from penstock.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"

TS = """\
# A comment: with, signs
@problemName Letters
@timeStamps FALSE
@MISSING false
@univariate false
@Dimensions 2
@equalLength false
@classLabel true a b
@data
1,2,3:-1,-2,-3:a

# another
 .5 : 1e-3 : b
"""


def save(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path, **options: Any) -> list[Series]:
    return list(read_series(path, series_columns(path, **options)))


def error(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path)).lstrip(":, ")


# --- .ts ---


@pytest.mark.parametrize("name", ["a.ts", "a.ts.gz", "a.TS"])
def test_ts(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, TS)
    first, second = read_series(path)
    assert (first.id, first.label, first.line) == ("1", "a", 10)
    assert (second.id, second.label, second.line) == ("2", "b", 13)
    assert first.values.dtype == np.float32
    assert first.values.tolist() == [[1, -1], [2, -2], [3, -3]]
    assert second.values.tolist() == [[0.5, np.float32(1e-3)]]
    assert series_columns(path).values == ("dim 1", "dim 2")


def test_ts_without_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ts", "@univariate true\n@classLabel false\n@data\n1,2\n3\n")
    assert [(s.values.tolist(), s.label) for s in read(path, label=None)] == [
        ([[1], [2]], None),
        ([[3]], None),
    ]
    assert error(path) == "expected '@classLabel true' in the header, the file has no labels"
    labelled = save(tmp_path / "b.ts", TS)
    assert [s.label for s in read(labelled, label=None)] == [None, None]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("1,2,3:", "1,?,3:", "line 10, dimension 1, step 2: expected a number, got a missing value"),
        ("1,2,3:", "1,NaN,3:", "line 10, dimension 1, step 2: expected a finite number, got NaN"),
        ("1,2,3:", "1,2,-inf:", "line 10, dimension 1, step 3: expected a finite number, got -inf"),
        ("1,2,3:", "1,2,1e39:", "line 10, dimension 1, step 3: expected a finite number, got 1e39"),
        ("1,2,3:", "1,2,x:", "line 10, dimension 1, step 3: expected a number, got 'x'"),
        ("1,2,3:", "1,2:", "line 10, dimension 2: expected 2 steps as in dimension 1, got 3"),
        ("1,2,3:", "1,2,3:4,5,6:", "line 10: expected 2 dimensions, got 3"),
        (" .5 :", "", "line 13: expected 2 dimensions, got 1"),
        (": b", ": c", "line 13: the label 'c' is not among those of @classLabel"),
        ("@Dimensions 2", "@Dimensions two", "line 6: expected a positive number of dimensions, got 'two'"),
        ("FALSE", "true", "line 3: series with timestamps are not supported"),
        ("@equalLength false", "@targetLabel true", "line 7: series with targetlabel are not supported"),
        ("@data", "@Date", "line 10: expected a header line (@...) or @data, got '1,2,3:-1,-2,-3:a'"),
        (TS[TS.index("@data") :], "", "expected a line @data, got none"),
        (TS[TS.index("1,2,3") :], "", "expected series below @data, got none"),
    ],
)
def test_ts_mistakes(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in TS
    assert error(save(tmp_path / "a.ts", TS.replace(old, new, 1))).startswith(sentence)


def test_ts_of_other_channels_than_the_model(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ts", TS)
    columns = SeriesColumns("id", None, "label", ("x", "y", "z"))
    with pytest.raises(InputError, match="line 10: expected 3 channels, got 2"):
        list(read_series(path, columns))


def test_other_suffix(tmp_path: Path) -> None:
    assert error(save(tmp_path / "a.txt", TS)).startswith("expected series in a .ts file or a table")
    assert error(tmp_path / "a.ts") == "no such file"


@pytest.mark.parametrize(("part", "count"), [("TRAIN", 270), ("TEST", 370)])
def test_japanese_vowels(part: str, count: int) -> None:
    path = SHARED / "japanese_vowels" / f"JapaneseVowels_{part}.ts"
    if not path.exists():
        pytest.skip("the data set japanese_vowels is not beside the checkout")
    series = list(read_series(path))
    assert len(series) == count
    assert {s.values.shape[1] for s in series} == {12}
    lengths = [len(s.values) for s in series]
    assert (min(lengths), max(lengths)) == (7, {"TRAIN": 26, "TEST": 29}[part])
    assert {s.label for s in series} == set("123456789")


# --- long tables ---


def random_series(seed: int) -> list[Series]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 8, 12)
    values = [random.normal(size=(length, 3)).astype(np.float32) for length in lengths]
    return [Series(f"s{i}", v, random.choice(["x", "y"]), 0) for i, v in enumerate(values)]


def table_rows(series: list[Series]) -> list[dict[str, Any]]:
    """Long form, contiguous, in order of time; the values so that they come back exactly."""
    return [
        {"name": s.id, "time": t, "kind": s.label, "note": "n/m", "x": float(x), "y": float(y), "z": float(z)}
        for s in series
        for t, (x, y, z) in enumerate(s.values)
    ]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def same(read: list[Series], expected: list[Series]) -> bool:
    return len(read) == len(expected) and all(
        (a.id, a.label) == (b.id, b.label) and np.array_equal(a.values, b.values)
        for a, b in zip(read, expected, strict=True)
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("order", ["contiguous", "contiguous, time mixed", "interleaved"])
@pytest.mark.parametrize("seed", range(3))
def test_long_tables(tmp_path: Path, suffix: str, order: str, seed: int) -> None:
    series = random_series(seed)
    rows = table_rows(series)
    source = random.Random(seed)
    if order == "interleaved":
        source.shuffle(rows)
    elif order == "contiguous, time mixed":
        rows.sort(key=lambda row: (int(row["name"][1:]), source.random()))
    path = write_table(tmp_path / f"a{suffix}", rows)
    read_back = read(path, id="name", label="kind")
    assert [s.id for s in read_back] == list(dict.fromkeys(row["name"] for row in rows))
    assert [rows[s.line - (1 if suffix in (".jsonl", ".parquet") else 2)]["name"] for s in read_back] == [
        s.id for s in read_back
    ]
    assert same(sorted(read_back, key=lambda s: int(s.id[1:])), series)


def test_columns(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", table_rows(random_series(0)))
    columns = series_columns(path, id="name", label="kind")
    assert columns == SeriesColumns("name", "time", "kind", ("x", "y", "z"))
    chosen = series_columns(path, id="name", label="kind", values=["z", "time"])
    assert chosen == SeriesColumns("name", None, "kind", ("z", "time"))
    swapped = [s.values[:, 0] for s in read_series(path, chosen)]
    assert all(np.array_equal(a, b.values[:, 2]) for a, b in zip(swapped, random_series(0), strict=True))
    assert [s.label for s in read_series(path, replace(columns, label=None))] == [None] * 12
    assert series_columns(path, id="name", label=None, values=["x"]).label is None


def test_order_of_the_file_without_a_time_column(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "id,label,v\na,x,3\nb,y,0\na,x,1\na,x,2\n")
    assert [s.values[:, 0].tolist() for s in read(path)] == [[3, 1, 2], [0]]


@pytest.mark.parametrize(
    "times",
    [
        ["10", "9", "-1e0"],
        ["2024-01-02", "2024-01-01T23:59:59", "2024-01-01 08:00"],
        ["2024-01-01T00:00:00Z", "2024-01-01T00:30:00+01:00", "2023-12-31T00:00:00Z"],
    ],
)
def test_times_are_numbers_or_dates(tmp_path: Path, times: list[str]) -> None:
    path = save(tmp_path / "a.csv", "id,time,v\n" + "".join(f"a,{t},{i}\n" for i, t in enumerate(times)))
    (series,) = read(path, label=None)
    assert series.values[:, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("id,label,v\na,x,1\na,x,\n", {}, "line 3, column 'v': expected a number, got a missing value"),
        ("id,label,v\na,x,\n", {}, "line 2, column 'v': expected a number, got a missing value"),
        ("id,label,v\na,x,nan\n", {}, "line 2, column 'v': expected a finite number, got nan"),
        ("id,label,v\na,x,1\na,x,-Inf\n", {}, "line 3, column 'v': expected a finite number, got -Inf"),
        ("id,label,v\na,x,1\na,x,1e40\n", {}, "line 3, column 'v': expected a finite number, got 1e40"),
        ("id,label,v,w\na,x,1,2\na,x,1,two\n", {}, "line 3, column 'w': expected a number, got 'two'"),
        ("id,label,v\na,x,one\n", {"values": ["v"]}, "line 2, column 'v': expected a number, got 'one'"),
        ("id,label,v\na,x,one\n", {}, "no numeric columns besides 'id', 'label'"),
        (
            "id,label,v\na,x,1\na,y,1\n",
            {},
            "line 3: expected the label 'x' that the series 'a' has on line 2, got 'y'",
        ),
        (
            "id,label,v\na,x,1\nb,x,1\na,y,1\n",
            {},
            "line 4: expected the label 'x' that the series 'a' has on line 2",
        ),
        ("id,label,v\n,x,1\n", {}, "line 2: the column 'id' is empty"),
        ("id,label,v\na,,1\n", {}, "line 2: the column 'label' is empty"),
        ("id,time,label,v\na,noon,x,1\n", {}, "line 2, column 'time': expected a number or an ISO 8601 date"),
        ("id,time,label,v\na,nan,x,1\n", {}, "line 2, column 'time': expected a finite number, got nan"),
        ("id,v\na,1\n", {}, "no column 'label'; the columns are 'id', 'v'"),
        ("name,label,v\na,x,1\n", {}, "no column 'id'; the columns are 'name', 'label', 'v'"),
        ("id,label,v\na,x,1\n", {"values": ["w"]}, "no column 'w'"),
        ("id,label,v\na,x,1\n", {"time": "t"}, "no column 't'"),
        ("id,label,v\na,x,1\na,x\n", {}, "line 3: expected 3 columns as in the header, got 2"),
        ("id,label,v\n", {}, "expected rows, got none"),
    ],
)
def test_table_mistakes(tmp_path: Path, text: str, options: dict[str, Any], sentence: str) -> None:
    assert error(save(tmp_path / "a.csv", text), **options).startswith(sentence)


def test_parquet_mistakes_name_the_row(tmp_path: Path) -> None:
    rows = [{"id": "a", "label": "x", "v": 1.0}, {"id": "a", "label": "x", "v": float("nan")}]
    path = write_table(tmp_path / "a.parquet", rows)
    assert error(path) == "row 2, column 'v': expected a finite number, got nan"
    path = write_table(tmp_path / "a.parquet", [rows[0], rows[0] | {"v": None}])
    assert error(path) == "row 2: the column 'v' is null"


def test_streams_a_contiguous_table(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.csv", "id,label,v\n" + "".join(f"{i},x,{i}\n" for i in range(100)) + "100,x,bad\n"
    )
    series = read_series(path, SeriesColumns("id", None, "label", ("v",)))
    assert [int(s.values[0, 0]) for _, s in zip(range(100), series, strict=False)] == list(range(100))
    with pytest.raises(InputError, match="line 102"):
        next(series)


# --- scaling ---


@pytest.mark.parametrize("seed", range(5))
def test_scaler_agrees_with_the_two_pass_formula(seed: int) -> None:
    random = np.random.default_rng(seed)
    offset, spread = random.normal(scale=1000, size=4), random.uniform(0.01, 100, 4)
    series = [
        (offset + spread * random.normal(size=(n, 4))).astype(np.float32) for n in random.integers(0, 50, 30)
    ]
    scaler = Scaler.fit(iter(series))
    joined = np.concatenate(series).astype(np.float64)
    np.testing.assert_allclose(scaler.mean, joined.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, joined.std(0), rtol=1e-10)
    scaled = np.concatenate([scaler.transform(values) for values in series])
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1234.567, 1e30])
def test_constant_channel(constant: float) -> None:
    series = [np.full((n, 1), constant, np.float32) for n in (3, 7, 1)]
    scaler = Scaler.fit(series)
    assert scaler.scale.tolist() == [1]
    assert np.abs(scaler.transform(series[0])).max() <= abs(constant) * 1e-7


def test_scaler_json() -> None:
    scaler = Scaler.fit([np.array([[1, 2], [3, 5]], np.float32)])
    again = Scaler.from_json(scaler.to_json())
    assert (again.mean.tolist(), again.scale.tolist()) == (scaler.mean.tolist(), scaler.scale.tolist())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"mean": [1]', '{"mean": [1], "scale": [0]}', '{"mean": [1], "scale": [1, 2]}']
)
def test_scaler_of_a_damaged_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^m/scaler\.json: expected the means and scales"):
        Scaler.from_json(text, "m/scaler.json")


@pytest.mark.parametrize("series", [[], [np.zeros((0, 2), np.float32)]])
def test_scaler_without_data(series: list[NDArray[np.float32]]) -> None:
    with pytest.raises(ValueError, match="at least one time step"):
        Scaler.fit(series)
