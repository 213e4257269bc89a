"""The rows of a table over time, checked and on disk: series id, stamp, numbers, categories as codes.

A table is read once and piece by piece. However many rows it has, in memory are one piece of it, the ids and
the categories.
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.data.frequency import counts_steps, parse_number, parse_stamp
from penstock.data.lines import place
from penstock.data.numbers import LARGEST, MISSING, is_number
from penstock.data.table import column_names, delimited_records, read_rows
from penstock.errors import InputError

Floats = NDArray[np.float64]
Table = Mapping[str, Sequence[Any]]
Record = tuple[int, Sequence[str]]

_TIME_NAMES = ("time", "date", "datetime", "timestamp", "ds")
_PIECE = 4096  # rows read, checked and written at a time
_ITEM, _LINE, _STAMP, _VALUES = range(
    4
)  # the columns on disk; the values are the last, and as many as there are
_STATIC = "--static-columns"


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Attributes:
        id: tells the series of a long table apart; None for a wide table, where every target is a series.
        time: the time stamps; None looks for a column called time, date, datetime, timestamp or ds, then for
            dates in the first column, and else counts rows.
        target: the values to forecast; empty for all columns that are nothing else, of which a long table
            may have one.
        past: covariates that are known up to now; a target may be one too.
        known: covariates that are known in advance.
        static: covariates with one value a series.
        categorical: those covariates whose numbers are categories.
        infer: whether a covariate is also categorical when its first value is text.
        header: whether the first row names the columns; None takes a row of numbers for data.
    """

    id: str | None = None
    time: str | None = None
    target: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    infer: bool = True
    header: bool | None = None


class Item(NamedTuple):
    """Rows that share their time: those of an id, or the whole of a wide table.

    Attributes:
        name: the id; None for a wide table.
        first, last: its rows in `Observations`, the last one left out.
        static: (S,), categories as codes, NaN where a value is missing.
    """

    name: str | None
    first: int
    last: int
    static: list[float]


class Observations:
    """What `read_observations` found; the rows are in a file that goes with this object.

    Attributes:
        source: what an error calls the table.
        numbers: whether time is counted, not dated.
        target, past, known, static: names of the columns.
        categories: of every categorical covariate, in the order of their codes.
        items: in the order in which they first appear.
    """

    def __init__(self, source: str, where: Callable[[int], str], numbers: bool, roles: "_Roles") -> None:
        self.source, self.where, self.numbers = source, where, numbers
        self.target, self.past, self.known, self.static = (
            [column.name for column in columns] for columns in roles
        )
        self.categories: dict[str, list[str]] = {}
        self.items: list[Item] = []
        self._read: Callable[[int, int, int], Floats]

    def stamps(self, item: Item) -> NDArray[np.int64]:
        """Of every row of the item, in the order of the table."""
        return self._read(_STAMP, item.first, item.last).astype(np.int64)

    def values(self, item: Item, number: int) -> Floats:
        """One column of the item: targets, past and known covariates are numbered in this order."""
        return self._read(_VALUES + number, item.first, item.last)

    def place(self, item: Item, row: int) -> str:
        """What an error calls a row of the item."""
        first = item.first + row
        return self.where(int(self._read(_LINE, first, first + 1)[0]))


@contextlib.contextmanager
def read_observations(
    source: str | os.PathLike[str] | Table, columns: Columns, folder: Path
) -> Iterator[Observations]:
    """Read a table; what is found can be read within the block.

    Args:
        source: a csv, tsv, txt (as csv), jsonl or Parquet file, each also .gz; or column name -> values.
        columns: which column is what.
        folder: for the file of rows, which is gone after the block.

    Raises:
        InputError: a missing or damaged file or column, text where a number or a time stamp should stand, two
            values of a static column for one id; naming file, row and value.
    """
    table = _memory_table(source) if isinstance(source, Mapping) else _file_table(Path(source), columns)
    head = next(table.records, None)
    if head is None:
        raise InputError(f"{table.source}: expected rows, got none")
    records = chain([head], table.records)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        reader = _Reader(table, columns, head[1], file)
        while piece := list(islice(records, _PIECE)):
            reader.add([line for line, _ in piece], list(zip(*(cells for _, cells in piece), strict=True)))
        yield reader.finish(folder)


# --- rows, whatever they come from ---


@dataclass
class _Table:
    """The header of a table and its records, each with the number of its line or row."""

    source: str
    names: list[str]
    records: Iterator[Record]
    where: Callable[[int], str]

    def index(self, name: str, flag: str) -> int:
        if name not in self.names:
            known = ", ".join(map(repr, self.names))
            raise InputError(f"{self.source}: {flag}: no column {name!r}; the columns are {known}")
        return self.names.index(name)


def _memory_table(table: Table) -> _Table:
    names = [str(name) for name in table]
    lengths = {len(table[name]) for name in table}
    if len(lengths) != 1:
        raise InputError(f"the table: expected columns of one length, got {sorted(lengths)}")
    texts = ([_cell(value) for value in record] for record in zip(*table.values(), strict=True))
    return _Table("the table", names, enumerate(texts, 1), lambda row: f"the table, row {row}")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _file_table(path: Path, columns: Columns) -> _Table:
    def where(line: int) -> str:
        return place(path, line)

    if path.name.lower().removesuffix(".gz").endswith((".parquet", ".jsonl", ".ndjson")):
        names = column_names(path)
        rows = read_rows(path, names, nulls=[name for name in names if name != columns.id])
        return _Table(str(path), names, ((row.line, list(row.values.values())) for row in rows), where)
    records: Iterator[Record] = iter(delimited_records(path))
    line, first = next(records, (0, []))
    if not first:
        raise InputError(f"{path}: expected rows, got none")
    header = columns.header
    if header is None:
        header = not all(is_number(text) or _is_missing(text) for text in first)
    if header:
        names = [text.strip() for text in first]
    else:
        names = [str(number) for number in range(1, len(first) + 1)]
        records = chain([(line, first)], records)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: the column {name!r} appears more than once in the header")
    return _Table(str(path), names, _checked(path, len(names), records), where)


def _checked(path: Path, count: int, records: Iterable[Record]) -> Iterator[Record]:
    for line, record in records:
        if len(record) != count:
            raise InputError(f"{path}, line {line}: expected {count} columns, got {len(record)}")
        yield line, record


def _is_missing(text: str) -> bool:
    return text.strip().lower() in MISSING


# --- which column is what ---


class _Roles(NamedTuple):
    """The columns of every role, but for id and time."""

    target: list["_Column"]
    past: list["_Column"]
    known: list["_Column"]
    static: list["_Column"]


def _roles(table: _Table, columns: Columns, id: int | None, time: int | None) -> _Roles:
    named = {
        "--target": columns.target,
        "--past-columns": columns.past,
        "--known-columns": columns.known,
        _STATIC: columns.static,
    }
    if columns.static and id is None:
        raise InputError(f"{_STATIC} needs --id-column: a wide table has no rows of a single series")
    taken = {id: "--id-column", time: "--time-column"}
    places = {flag: [table.index(name, flag) for name in names] for flag, names in named.items()}
    for flag, indices in places.items():
        for index in indices:
            if index in taken and (taken[index], flag) != ("--target", "--past-columns"):
                name = table.names[index]
                raise InputError(
                    f"{table.source}: {flag} {name}: the column is already that of {taken[index]}"
                )
            taken[index] = flag
    if not columns.target:
        left = [i for i in range(len(table.names)) if i not in taken]
        places["--target"] = _default_target(table, left, long=id is not None)
    covariates = {name for names in (columns.past, columns.known, columns.static) for name in names}
    for name in columns.categorical:
        if name not in covariates:
            raise InputError(f"{table.source}: --categorical-columns {name}: the column is no covariate")

    def column(index: int, flag: str) -> _Column:
        name = table.names[index]
        if flag == "--target":
            return _Column(name, index, categorical=False)
        return _Column(name, index, True if name in columns.categorical else None if columns.infer else False)

    return _Roles(*([column(index, flag) for index in indices] for flag, indices in places.items()))


def _default_target(table: _Table, left: list[int], long: bool) -> list[int]:
    if not left and not long:
        raise InputError(f"{table.source}: expected a column a series beside the time column, got none")
    if long and len(left) != 1:
        names = ", ".join(repr(table.names[i]) for i in left) or "none"
        raise InputError(f"{table.source}: --target: expected the column with the values, could be {names}")
    return left


def _time_column(table: _Table, columns: Columns, first: Sequence[str]) -> int | None:
    if columns.time is not None:
        return table.index(columns.time, "--time-column")
    for i, name in enumerate(table.names):
        if name.lower() in _TIME_NAMES:
            return i
    dated = not is_number(first[0]) and parse_stamp(first[0]) is not None
    return 0 if dated else None


# --- from text to numbers ---


class _Column:
    """A column while it is read: numbers, or categories, coded in the order in which they appear.

    Args:
        name, index: in the table.
        categorical: None lets the first value that is not missing decide: text is a category.
    """

    def __init__(self, name: str, index: int, categorical: bool | None) -> None:
        self.name, self.index, self.categorical = name, index, categorical
        self.hint = (
            f"; --categorical-columns {name} takes numbers as categories" if categorical is None else ""
        )
        self.codes: dict[str, int] = {}

    def read(self, texts: Sequence[str], where: Callable[[int], str]) -> Floats:
        """n texts as float64 (n,), NaN where a value is missing; `where` tells the place of the i-th."""
        if self.categorical is None:
            first = next((text for text in texts if not _is_missing(text)), None)
            self.categorical = None if first is None else not is_number(first)
        if self.categorical:
            return np.array([self._code(text) for text in texts])
        try:
            found = np.array([float(text) for text in texts])
        except ValueError:
            found = np.array([self._number(text, i, where) for i, text in enumerate(texts)])
        large = np.abs(found) > LARGEST
        if large.any():
            i = int(large.argmax())
            raise InputError(f"{self._cell(i, where)}: expected a finite number, got {texts[i].strip()}")
        return found

    def _code(self, text: str) -> float:
        return math.nan if _is_missing(text) else self.codes.setdefault(text.strip(), len(self.codes))

    def _number(self, text: str, i: int, where: Callable[[int], str]) -> float:
        if _is_missing(text):
            return math.nan
        if not is_number(text):
            raise InputError(f"{self._cell(i, where)}: expected a number, got {text!r}{self.hint}")
        return float(text)

    def _cell(self, i: int, where: Callable[[int], str]) -> str:
        return f"{where(i)}, column {self.name!r}"


class _Reader:
    """Takes the pieces of a table and writes their rows."""

    def __init__(self, table: _Table, columns: Columns, first: Sequence[str], file: IO[bytes]) -> None:
        self._table = table
        self._id = table.index(columns.id, "--id-column") if columns.id is not None else None
        self._time = _time_column(table, columns, first)
        self._numbers = self._time is None or counts_steps(first[self._time])
        self._roles = _roles(table, columns, self._id, self._time)
        self._values = [*self._roles.target, *self._roles.past, *self._roles.known]
        self._ids: dict[str, int] = {} if columns.id is not None else {"": 0}
        self._counts: list[int] = [] if columns.id is not None else [0]
        self._static = np.zeros((0, len(self._roles.static)))
        self._contiguous, self._last = True, -1
        self._pieces = _Pieces(file, _VALUES + len(self._values))

    def add(self, lines: list[int], cells: list[tuple[str, ...]]) -> None:
        """Check and write the rows of a piece; `cells` are column by column."""

        def where(i: int) -> str:
            return self._table.where(lines[i])

        items = self._items(cells, len(lines), where)
        stamps = self._counted(items) if self._time is None else self._stamps(cells[self._time], where)
        self._count(items)
        self._check_static(items, cells, where)
        values = [column.read(cells[column.index], where) for column in self._values]
        self._pieces.append(np.stack([items, np.array(lines), stamps, *values]).astype(np.float64))

    def _items(
        self, cells: list[tuple[str, ...]], rows: int, where: Callable[[int], str]
    ) -> NDArray[np.int64]:
        if self._id is None:
            return np.zeros(rows, np.int64)
        names = cells[self._id]
        if not all(names):
            name = self._table.names[self._id]
            raise InputError(f"{where(names.index(''))}: the column {name!r} is empty")
        return np.array([self._ids.setdefault(name, len(self._ids)) for name in names])

    def _stamps(self, texts: Sequence[str], where: Callable[[int], str]) -> NDArray[np.int64]:
        parse = parse_number if self._numbers else parse_stamp
        found = [parse(text) for text in texts]
        if None in found:
            i = found.index(None)
            wanted = "a whole number" if self._numbers else "a date or a time stamp (2016-07-01 08:00)"
            raise InputError(f"{where(i)}: expected {wanted}, got {texts[i]!r}")
        return np.array(found, np.int64)

    def _counted(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where there are no stamps: the number of each row among those of its item."""
        before = np.zeros(len(self._ids), np.int64)
        before[: len(self._counts)] = self._counts
        return before[items] + _places_among_equals(items)

    def _count(self, items: NDArray[np.int64]) -> None:
        found = np.bincount(items, minlength=len(self._ids))
        found[: len(self._counts)] += np.array(self._counts, np.int64)
        self._counts = found.tolist()
        new = np.diff(items, prepend=self._last)
        self._contiguous &= bool(np.isin(new, (0, 1)).all())
        self._last = int(items[-1])

    def _check_static(
        self, items: NDArray[np.int64], cells: list[tuple[str, ...]], where: Callable[[int], str]
    ) -> None:
        """Keep the first value of every item, and see that no later one is another."""
        added = np.full((len(self._ids) - len(self._static), len(self._roles.static)), np.nan)
        self._static = np.concatenate([self._static, added])
        for column, kept in zip(self._roles.static, self._static.T, strict=True):
            found = column.read(cells[column.index], where)
            present = ~np.isnan(found)
            first, rows = np.unique(items[present], return_index=True)
            unset = np.isnan(kept[first])
            kept[first[unset]] = found[present][rows[unset]]
            for i in np.flatnonzero(present & (found != kept[items]))[:1].tolist():
                name = self._table.names[self._id or 0]
                raise InputError(
                    f"{where(i)}: {_STATIC} {column.name}: expected one value for each {name!r}, "
                    f"got {cells[column.index][i]!r} after another one"
                )

    def finish(self, folder: Path) -> Observations:
        found = Observations(self._table.source, self._table.where, self._numbers, self._roles)
        ends = np.cumsum(self._counts).tolist()
        names = self._ids if self._id is not None else [None]
        heads = zip(names, [0, *ends[:-1]], ends, self._static.tolist(), strict=True)
        found.items = [Item(*head) for head in heads]
        covariates = [*self._roles.past, *self._roles.known, *self._roles.static]
        found.categories = {column.name: list(column.codes) for column in covariates if column.categorical}
        found._read = self._pieces.read if self._contiguous else self._pieces.grouped(self._counts, folder)
        return found


def _places_among_equals(items: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every element how many equal ones stand before it."""
    order = np.argsort(items, kind="stable")
    starts = np.searchsorted(items[order], items[order])
    places = np.empty(len(items), np.int64)
    places[order] = np.arange(len(items)) - starts
    return places


class _Pieces:
    """Columns of float64 in a file, so many rows at a time, each column of a piece in one run."""

    def __init__(self, file: IO[bytes], width: int) -> None:
        self.width, self.rows = width, 0
        self._file = file
        self._sizes: list[int] = []

    def append(self, piece: Floats) -> None:
        """Add (width, n); all pieces but the last have the same n."""
        self._file.write(np.ascontiguousarray(piece).data)
        self._sizes.append(piece.shape[1])
        self.rows += piece.shape[1]

    def read(self, column: int, first: int, last: int) -> Floats:
        """Rows `first` to before `last` of a column."""
        found = np.empty(last - first)
        at = first
        while at < last:
            number, within = divmod(at, self._sizes[0])
            count = min(self._sizes[number] - within, last - at)
            start = self.width * self._sizes[0] * number + column * self._sizes[number] + within
            self._file.seek(8 * start)
            found[at - first : at - first + count] = np.frombuffer(self._file.read(8 * count))
            at += count
        return found

    def grouped(self, counts: Sequence[int], folder: Path) -> Callable[[int, int, int], Floats]:
        """`read` of the same rows grouped by item (a counting sort into a second file, memory-mapped)."""
        following = np.cumsum([0, *counts])[:-1]
        with tempfile.TemporaryFile(dir=folder) as file:
            placed = np.memmap(file, np.float64, "w+", shape=(self.width, self.rows))
        for first in range(0, self.rows, _PIECE):
            last = min(first + _PIECE, self.rows)
            items = self.read(_ITEM, first, last).astype(np.int64)
            places = following[items] + _places_among_equals(items)
            for column in range(self.width):
                placed[column, places] = self.read(column, first, last)
            following += np.bincount(items, minlength=len(following))
        return lambda column, first, last: np.array(placed[column, first:last])
