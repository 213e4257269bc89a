"""Multivariate numeric series of differing length, from .ts files and from long tables; and their scaling."""

import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from penstock.data.lines import place, read_lines
from penstock.data.numbers import MISSING, is_number, to_finite, to_float32
from penstock.data.table import column_names, is_table, read_rows
from penstock.errors import InputError


class Series(NamedTuple):
    """One series.

    Attributes:
        id: its name: the id column's value, or for .ts its number in the file, from 1.
        values: float32 (T, D), all finite, T >= 1.
        label: None where none was asked for.
        line: where it begins in the file (line number, or row number for Parquet).
    """

    id: str
    values: NDArray[np.float32]
    label: str | None
    line: int


@dataclass(frozen=True)
class SeriesColumns:
    """Which column of a long table is what.

    Attributes:
        id: rows with the same id form a series.
        time: rows of a series are sorted by it (numbers or ISO 8601 dates), rows of equal time keep the
            file's order; None for the file's order.
        label: the same in all rows of a series; None when no labels are wanted.
        values: the D channels, in order.
    """

    id: str
    time: str | None
    label: str | None
    values: tuple[str, ...]


def series_columns(
    path: str | os.PathLike[str],
    id: str = "id",
    time: str | None = None,
    label: str | None = "label",
    values: Sequence[str] = (),
) -> SeriesColumns:
    """Decide on the columns of a file of series, a table or .ts.

    Args:
        path: the file.
        id: the id column; must be there.
        time: the time column; None takes a column called `time` if there is one.
        label: the label column; None when no labels are wanted.
        values: the channels; empty takes every other column that does not hold text in the first row. For a
            .ts file they are called `dim 1`, `dim 2`, ..., and the other columns mean nothing.

    Raises:
        InputError: a column is missing, or there are no channels.
    """
    path = Path(path)
    if not is_table(path):
        _check_ts(path)
        first = next(_ts_series(path, labelled=False))
        return SeriesColumns(id, None, label, tuple(f"dim {d + 1}" for d in range(first.values.shape[1])))
    names = column_names(path)
    time = "time" if time is None and "time" in names and "time" not in (id, label, *values) else time
    taken = {id, time, label}
    wanted = list(values) or [name for name in names if name not in taken]
    first = next(read_rows(path, [name for name in (id, time, label) if name] + wanted)).values
    channels = tuple(values) or tuple(name for name in wanted if not _is_text(first[name]))
    if not channels:
        raise InputError(
            f"{path}: no numeric columns besides {', '.join(repr(n) for n in names if n in taken)}"
        )
    return SeriesColumns(id, time, label, channels)


def read_series(path: str | os.PathLike[str], columns: SeriesColumns | None = None) -> Iterator[Series]:
    """Yield the series of a `.ts` file (`.ts.gz`) or of a long table, one row a time step (see `read_rows`).

    A .ts file (the format of sktime, aeon and the UEA archive) is streamed. A table whose ids are contiguous
    is streamed too, after a first pass over its id column; one whose ids are interleaved is first grouped in
    a temporary file, memory-mapped, of 4 D + 8 bytes a row. In memory are held only the ids with their
    counts. Series come in the order in which their ids first appear.

    Args:
        path: the file.
        columns: as `series_columns` gives them, for new data with `label=None` if need be; None asks it. Its
            `values` fix the channels: a .ts file must have as many, a table must have these.

    Raises:
        InputError: a missing or damaged file or column; a value that is missing, not a number or not finite;
            another number of channels; labels that differ within a series; naming file and line.
    """
    path = Path(path)
    columns = columns or series_columns(path)
    if is_table(path):
        yield from _table_series(path, columns)
        return
    _check_ts(path)
    for series in _ts_series(path, labelled=columns.label is not None):
        if series.values.shape[1] != len(columns.values):
            expected, got = len(columns.values), series.values.shape[1]
            raise InputError(f"{path}, line {series.line}: expected {expected} channels, got {got}")
        yield series


class Scaler:
    """Standardise channels: (x - mean) / scale, the mean and standard deviation of the training series.

    A channel that is constant in the training series has scale 1.

    Args:
        mean: (D,).
        scale: (D,), positive.
    """

    def __init__(
        self, mean: Sequence[float] | NDArray[np.float64], scale: Sequence[float] | NDArray[np.float64]
    ):
        self.mean = np.asarray(mean, np.float64)
        self.scale = np.asarray(scale, np.float64)
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape or not np.all(self.scale > 0):
            raise ValueError("mean, scale: expected two lists of the same length, scale positive")

    @classmethod
    def fit(cls, series: Iterable[NDArray[np.float32]]) -> Self:
        """Fit on arrays (T, D) in one pass (Welford 1962, merged array by array as in Chan et al. 1983)."""
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for values in series:
            if not len(values):
                continue
            wide = values.astype(np.float64)
            new_mean = wide.mean(0)
            delta, total = new_mean - mean, count + len(wide)
            squares = squares + ((wide - new_mean) ** 2).sum(0) + delta**2 * (count * len(wide) / total)
            mean = mean + delta * (len(wide) / total)
            count = total
        if not count:
            raise ValueError("series: expected at least one time step, got none")
        deviation = np.sqrt(squares / count)
        # Below float32's resolution at the mean, a deviation is rounding, not signal.
        constant = deviation <= np.finfo(np.float32).eps * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, deviation))

    def transform(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale (T, D) to zero mean and unit deviation as of the training series."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def to_json(self) -> str:
        """The two lists as a JSON object."""
        return json.dumps({"mean": self.mean.tolist(), "scale": self.scale.tolist()}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "scaler.json") -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: the text is not such an object; the sentence names `source`.
        """
        try:
            fields = json.loads(text)
            return cls(fields["mean"], fields["scale"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{source}: expected the means and scales of channels ({error})") from None


# --- .ts files ---


@dataclass
class _TsHeader:
    labelled: bool = False
    classes: tuple[str, ...] = ()
    dimensions: int | None = None


def _check_ts(path: Path) -> None:
    if not path.name.lower().removesuffix(".gz").endswith(".ts"):
        raise InputError(f"{path}: expected series in a .ts file or a table (.csv, .tsv, .jsonl, .parquet)")


def _ts_series(path: Path, labelled: bool) -> Iterator[Series]:
    lines = ((n, line.strip()) for n, line in read_lines(path))
    lines = ((n, line) for n, line in lines if line and not line.startswith("#"))
    header = _ts_header(path, lines)
    if labelled and not header.labelled:
        raise InputError(f"{path}: expected '@classLabel true' in the header, the file has no labels")
    series = None
    for number, (line, text) in enumerate(lines, 1):
        where = f"{path}, line {line}"
        channels = text.split(":")
        label = channels.pop().strip() if header.labelled else None
        if label is not None and header.classes and label not in header.classes:
            raise InputError(f"{where}: the label {label!r} is not among those of @classLabel")
        values = [_ts_channel(channel, d, where) for d, channel in enumerate(channels, 1)]
        header.dimensions = header.dimensions or len(values)
        if len(values) != header.dimensions:
            raise InputError(f"{where}: expected {header.dimensions} dimensions, got {len(values)}")
        for d, channel in enumerate(values, 1):
            if len(channel) != len(values[0]):
                expected, got = len(values[0]), len(channel)
                raise InputError(
                    f"{where}, dimension {d}: expected {expected} steps as in dimension 1, got {got}"
                )
        series = Series(str(number), np.stack(values, 1), label if labelled else None, line)
        yield series
    if series is None:
        raise InputError(f"{path}: expected series below @data, got none")


def _ts_header(path: Path, lines: Iterator[tuple[int, str]]) -> _TsHeader:
    """Read up to and including @data; keys and the words true and false in any case."""
    header = _TsHeader()
    for number, line in lines:
        where = f"{path}, line {number}"
        key, *words = line.split()
        key, first = key.lower(), words[0].lower() if words else ""
        if key == "@data":
            return header
        if not key.startswith("@"):
            raise InputError(f"{where}: expected a header line (@...) or @data, got {line[:40]!r}")
        if key in ("@timestamps", "@targetlabel") and first == "true":
            raise InputError(f"{where}: series with {key[1:]} are not supported, expected '{key} false'")
        if key == "@classlabel":
            header.labelled, header.classes = first == "true", tuple(words[1:])
        elif key == "@univariate" and first == "true":
            header.dimensions = 1
        elif key in ("@dimension", "@dimensions"):
            if not first.isdecimal() or int(first) < 1:
                raise InputError(f"{where}: expected a positive number of dimensions, got {first!r}")
            header.dimensions = int(first)
    raise InputError(f"{path}: expected a line @data, got none")


def _ts_channel(text: str, dimension: int, where: str) -> NDArray[np.float32]:
    return to_float32(text.split(","), lambda step: f"{where}, dimension {dimension}, step {step + 1}")


# --- long tables ---


class _Step(NamedTuple):
    """One row of a long table."""

    id: str
    time: float
    label: str | None
    values: NDArray[np.float32]
    line: int


def _table_series(path: Path, columns: SeriesColumns) -> Iterator[Series]:
    counts, contiguous = _count_ids(path, columns.id)
    if not contiguous:
        yield from _grouped(path, columns, counts)
        return
    steps = _steps(path, columns)
    for count in counts.values():
        rows = list(itertools.islice(steps, count))
        for row in rows:
            _check_label(path, rows[0], row)
        yield _series(rows[0], np.array([row.time for row in rows]), np.stack([row.values for row in rows]))


def _count_ids(path: Path, column: str) -> tuple[dict[str, int], bool]:
    """How many rows each id has, in order of first appearance, and whether each id's are contiguous."""
    counts: dict[str, int] = {}
    contiguous, previous = True, None
    for row in read_rows(path, [column], nonempty=[column]):
        id = row.values[column]
        contiguous &= id == previous or id not in counts
        counts[id] = counts.get(id, 0) + 1
        previous = id
    return counts, contiguous


def _grouped(path: Path, columns: SeriesColumns, counts: dict[str, int]) -> Iterator[Series]:
    """Put every row in its place in a temporary file (a counting sort by id), then read that in order."""
    starts = dict(zip(counts, itertools.accumulate(counts.values(), initial=0), strict=False))
    following = dict(starts)
    first: dict[str, _Step] = {}
    kind = np.dtype([("time", np.float64), ("values", np.float32, (len(columns.values),))])
    with tempfile.TemporaryFile() as file:
        placed = np.memmap(file, kind, "w+", shape=(sum(counts.values()),))
        for step in _steps(path, columns):
            _check_label(path, first.setdefault(step.id, step), step)
            placed[following[step.id]] = (step.time, step.values)
            following[step.id] += 1
        for id, start in starts.items():
            rows = np.array(placed[start : start + counts[id]])
            yield _series(first[id], rows["time"], rows["values"])


def _steps(path: Path, columns: SeriesColumns) -> Iterator[_Step]:
    id, time, label, values = columns.id, columns.time, columns.label, columns.values
    named = [name for name in (id, time, label) if name is not None]
    for row in read_rows(path, [*named, *values], nonempty=named):
        where = place(path, row.line)
        numbers = to_float32(
            [row.values[name] for name in values], lambda d, at=where: f"{at}, column {values[d]!r}"
        )
        moment = _moment(row.values[time], f"{where}, column {time!r}") if time else 0.0
        yield _Step(row.values[id], moment, row.values[label] if label else None, numbers, row.line)


def _series(first: _Step, times: NDArray[np.float64], values: NDArray[np.float32]) -> Series:
    return Series(first.id, values[np.argsort(times, kind="stable")], first.label, first.line)


def _check_label(path: Path, first: _Step, step: _Step) -> None:
    if step.label != first.label:
        raise InputError(
            f"{place(path, step.line)}: expected the label {first.label!r} that the series {step.id!r} has "
            f"on line {first.line}, got {step.label!r}"
        )


def _moment(text: str, where: str) -> float:
    """A time as a number: itself, or an ISO 8601 date in seconds."""
    try:
        moment = datetime.fromisoformat(text.strip()) if not is_number(text) else None
    except ValueError:
        raise InputError(f"{where}: expected a number or an ISO 8601 date, got {text!r}") from None
    if moment is None:
        return to_finite(text, where)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_text(text: str) -> bool:
    return not is_number(text) and text.strip().lower() not in MISSING
