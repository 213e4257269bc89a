"""Series over regular time with their covariates, from wide tables (a column a series) and long ones.

Values lie in a file, memory-mapped; in memory are the names and beginnings of the series.

Dimensions: N series, T steps, R steps with those that are only known in advance.
"""

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from penstock.data.frequency import Frequency, Stamps, guess_frequency
from penstock.data.observations import Columns, Floats, Item, Observations, Table, read_observations
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.errors import InputError

__all__ = ["Columns", "Group", "Panel", "Schema", "TimeSeries", "open_panel", "read_panel", "write_panel"]


class TimeSeries(NamedTuple):
    """One series.

    Attributes:
        name: its column, or the value of the id column; both where a long table has several targets.
        start: the stamp of its first step.
        values: float64 (T,), NaN where a value is missing, T >= 1.
        past: covariates known up to now, float64 (columns, T); categories as codes, NaN where missing.
        known: covariates known in advance, (columns, R), R >= T.
        static: covariates of the whole series, (columns,).
    """

    name: str
    start: int
    values: Floats
    past: Floats
    known: Floats
    static: Floats


@dataclass(frozen=True)
class Schema:
    """What all series of a panel have in common.

    Attributes:
        frequency: of the steps.
        past, known, static: names of the covariates.
        categories: of every categorical covariate, in the order of their codes.
    """

    frequency: Frequency
    past: list[str]
    known: list[str]
    static: list[str]
    categories: dict[str, list[str]]


@dataclass
class Group:
    """Series that share time and covariates.

    Attributes:
        names: of the series.
        start: the stamp of the first step.
        steps: T.
        static: as of `TimeSeries`, None where a value is missing.
    """

    names: list[str]
    start: int
    steps: int
    static: list[float | None]


class Panel:
    """Series of one frequency, each with its own beginning and length; pickles as the place of its files.

    Args:
        folder: where `write_panel` put it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        fields = json.loads((folder / "panel.head").read_text(encoding="utf-8"))
        frequency = Frequency(**fields["schema"].pop("frequency"))
        self.schema = Schema(frequency, **fields["schema"])
        self.groups = [Group(**group) for group in fields["groups"]]
        self._rows = RaggedArray(folder / "panel.rows")

    @property
    def frequency(self) -> Frequency:
        return self.schema.frequency

    @cached_property
    def series(self) -> list[TimeSeries]:
        """All series; their arrays are views of the file."""
        return [one for group, rows in self._placed() for one in self._of_group(group, rows)]

    def _placed(self) -> Iterator[tuple[Group, int]]:
        row = 0
        for group in self.groups:
            yield group, row
            row += len(group.names) + len(self.schema.past) + len(self.schema.known)

    def _of_group(self, group: Group, row: int) -> list[TimeSeries]:
        """Its series; its rows in the file are its targets, past and known covariates."""
        past = row + len(group.names)
        known = past + len(self.schema.past)
        whole = self._rows.view(row, known + len(self.schema.known))
        block = whole.reshape(known + len(self.schema.known) - row, -1)
        static = np.array(group.static, np.float64)
        shared = (block[past - row : known - row, : group.steps], block[known - row :], static)
        return [
            TimeSeries(name, group.start, block[i, : group.steps], *shared)
            for i, name in enumerate(group.names)
        ]

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.folder,)


def write_panel(folder: Path, schema: Schema, groups: Iterable[tuple[Group, Iterable[Floats]]]) -> Panel:
    """Write series to `folder`.

    Args:
        folder: an existing one.
        schema: what they have in common.
        groups: each with its rows, of one length R >= T: targets, past covariates, known ones. A group is
            looked at after its rows.
    """
    found = []
    with RaggedWriter(folder / "panel.rows", np.float64) as writer:
        for group, rows in groups:
            for row in rows:
                writer.append(row)
            found.append(asdict(group))
    fields = {"schema": asdict(schema), "groups": found}
    (folder / "panel.head").write_text(json.dumps(fields, ensure_ascii=False), encoding="utf-8")
    return Panel(folder)


def open_panel(schema: Schema, groups: Iterable[tuple[Group, Iterable[Floats]]]) -> Panel:
    """The panel of these series, in a temporary folder that goes with it; see `write_panel`."""
    return _temporary(lambda folder: write_panel(folder, schema, groups))


def read_panel(
    source: str | os.PathLike[str] | Table,
    columns: Columns,
    frequency: Frequency | None = None,
    regularize: bool = False,
    folder: Path | None = None,
) -> Panel:
    """Read the series of a table, which may be larger than memory.

    Where there are covariates known in advance, a series ends with the last row that has a value of any
    target; the rows behind it tell what is known of the steps to come.

    Args:
        source: a csv, tsv, txt (as csv), jsonl or Parquet file, each also .gz; or column name -> values.
        columns: which column is what.
        frequency: the step that time must have; None takes the one that occurs most often.
        regularize: put values on a regular grid: average those of one step (of categories the last one
            counts), and leave steps between missing. Without it, time that is not regular is an error.
        folder: where the files of the panel go; None for a temporary one that goes with it.

    Raises:
        InputError: a missing or damaged file or column, text where a number or a time stamp should stand, or
            time stamps that repeat or leave the grid; naming file, row and value.
    """
    if folder is None:
        return _temporary(lambda folder: read_panel(source, columns, frequency, regularize, folder))
    with read_observations(source, columns, folder) as found:
        frequency = frequency or _common_frequency(found)
        _check_kind(found, frequency)
        schema = Schema(frequency, found.past, found.known, found.static, found.categories)
        panel = write_panel(folder, schema, _groups(found, frequency, regularize))
    _check_names(panel, found.source)
    return panel


def _temporary(make: Callable[[Path], Panel]) -> Panel:
    folder = Path(tempfile.mkdtemp(prefix="penstock-"))
    try:
        panel = make(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(panel, shutil.rmtree, folder, ignore_errors=True)
    return panel


def _check_names(panel: Panel, source: str) -> None:
    seen = set()
    for name in (name for group in panel.groups for name in group.names):
        if name in seen:
            raise InputError(f"{source}: two series are called {name!r}")
        seen.add(name)


# --- onto a regular grid ---


def _common_frequency(found: Observations) -> Frequency:
    """That of the item with the most rows that has two time stamps."""
    for item in sorted(found.items, key=lambda item: item.first - item.last):
        stamps = found.stamps(item)
        if stamps.min() < stamps.max():
            return guess_frequency(stamps, found.numbers)
    raise InputError(f"{found.source}: expected a series of at least two time stamps, got one")


def _check_kind(found: Observations, frequency: Frequency) -> None:
    counted = frequency.unit == "number"
    if found.numbers != counted:
        wanted, got = ("whole numbers", "dates") if counted else ("dates", "whole numbers")
        raise InputError(f"{found.source}: expected {wanted} as time stamps, got {got}")


def _groups(
    found: Observations, frequency: Frequency, regularize: bool
) -> Iterator[tuple[Group, Iterator[Floats]]]:
    for item in found.items:
        stamps = found.stamps(item)
        start = int(stamps.min()) if regularize else int(stamps[0])
        if not regularize:
            _check_regular(found, item, stamps, frequency)
        steps = frequency.positions(start, stamps) if regularize else None
        static = [None if np.isnan(value) else value for value in item.static]
        length = len(stamps) if steps is None else int(steps.max()) + 1
        group = Group(_names(found, item), start, length, static)
        yield group, _rows(found, item, group, steps)


def _names(found: Observations, item: Item) -> list[str]:
    if item.name is None:
        return found.target
    return [item.name] if len(found.target) == 1 else [f"{item.name}/{name}" for name in found.target]


def _rows(found: Observations, item: Item, group: Group, steps: Stamps | None) -> Iterator[Floats]:
    """The rows of a group; where covariates are known in advance, its targets tell how long it is."""
    end = 0
    for number, name in enumerate([*found.target, *found.past, *found.known]):
        values = found.values(item, number)
        if steps is not None:
            values = _fill(steps, values, name in found.categories)
        if number < len(found.target):
            end = max(end, *np.flatnonzero(~np.isnan(values))[-1:] + 1)
        yield values
    if found.known and end:
        group.steps = int(end)


def _check_regular(found: Observations, item: Item, stamps: Stamps, frequency: Frequency) -> None:
    wanted = frequency.stamps(int(stamps[0]), np.arange(len(stamps)))
    for i in np.flatnonzero(wanted != stamps)[:1].tolist():
        where, hint = found.place(item, i), "--regularize puts them on a regular grid"
        got = frequency.show(int(stamps[i]))
        if stamps[i] == stamps[i - 1]:
            raise InputError(f"{where}: the time stamp {got} repeats that of the row before; {hint}")
        raise InputError(
            f"{where}: expected the time stamp {frequency.show(int(wanted[i]))}, one step after the row "
            f"before, got {got}; {hint}"
        )


def _fill(steps: Stamps, values: Floats, categorical: bool) -> Floats:
    """The mean of the values of every step, of categories the last one; NaN where there is none."""
    present = ~np.isnan(values)
    size = int(steps.max()) + 1
    if categorical:
        found = np.full(size, np.nan)
        found[steps[present]] = values[present]
        return found
    counts = np.bincount(steps[present], minlength=size)
    sums = np.bincount(steps[present], values[present], minlength=size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
