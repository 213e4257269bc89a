"""Covariates as the model takes them: numbers standardised, categories as codes, 0 for one never seen.

Dimensions: C columns, T steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.data.panel import Panel, Schema
from penstock.errors import InputError

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Covariate:
    """How one column is encoded.

    Attributes:
        name: of the column.
        mean, deviation: of the training part of all series together; the deviation is 1 where it is constant.
        missing: whether the training part lacks values, so that the model is told which.
        categories: those of the training part, in the order of their codes; None for a column of numbers.
        size: of the vector of a category; it stays as it is when categories are added.
    """

    name: str
    mean: float = 0.0
    deviation: float = 1.0
    missing: bool = False
    categories: list[str] | None = None
    size: int = 0

    @property
    def numbers(self) -> int:
        """How many numbers a step of it is."""
        return 0 if self.categories is not None else 1 + self.missing


class Covariates(NamedTuple):
    """Those known up to now, those known in advance, and those of a whole series."""

    past: list[Covariate]
    known: list[Covariate]
    static: list[Covariate]


def sizes(covariates: Covariates, calendar: int) -> dict[str, int | list[tuple[int, int]]]:
    """The arguments of `inputs.Inputs`, where so many numbers of the calendar are known of every step."""
    found: dict[str, int | list[tuple[int, int]]] = {}
    for role, columns in covariates._asdict().items():
        found[role] = sum(column.numbers for column in columns) + (calendar if role == "known" else 0)
        tables = [(len(one.categories), one.size) for one in columns if one.categories is not None]
        found[f"{role}_categories"] = tables
    return found


class Encoder:
    """Encodes columns of a panel, whose codes of categories are its own.

    Args:
        covariates: C of them.
        categories: of the panel, by column.
    """

    def __init__(self, covariates: Sequence[Covariate], categories: Mapping[str, Sequence[str]]) -> None:
        numeric = [i for i, column in enumerate(covariates) if column.categories is None]
        columns = [covariates[i] for i in numeric]
        self._numeric = np.array(numeric, np.int64)
        self._means = np.array([column.mean for column in columns]).reshape(-1, 1)
        self._deviations = np.array([column.deviation for column in columns]).reshape(-1, 1)
        self._marked = np.array([column.missing for column in columns], bool)
        lookups = {
            i: _lookup(column.categories, categories.get(column.name, []))
            for i, column in enumerate(covariates)
            if column.categories is not None
        }
        self._categorical = np.array([*lookups], np.int64)
        self._lookups = [*lookups.values()]

    def numbers(self, values: NDArray[np.float64]) -> Floats:
        """Of (C, T) the numbers, (T, N): a missing one is the one before it or 0, and may be marked."""
        if not len(self._numeric):
            return np.zeros((values.shape[1], 0), np.float32)
        found = values[self._numeric]
        absent = np.isnan(found[self._marked])
        standard = (fill_forward(found) - self._means) / self._deviations
        return np.concatenate([np.nan_to_num(standard), absent]).T.astype(np.float32)

    def codes(self, values: NDArray[np.float64]) -> Codes:
        """Of (C, T) the categories, (T, N): 0 for one that is missing or was never seen."""
        if not len(self._categorical):
            return np.zeros((values.shape[1], 0), np.int64)
        found = np.nan_to_num(values[self._categorical], nan=-1).astype(np.int64)
        return np.stack([lookup[row] for lookup, row in zip(self._lookups, found, strict=True)], 1)


def _lookup(known: Sequence[str], categories: Sequence[str]) -> Codes:
    """The model's code for each of the panel's categories; at the end, for none, 0."""
    places = {name: code for code, name in enumerate(known, 1)}
    return np.array([*(places.get(name, 0) for name in categories), 0], np.int64)


def fill_forward(values: NDArray[Any]) -> NDArray[Any]:
    """Every NaN of (..., T) replaced by the last number before it; those before the first number stay."""
    steps = np.where(np.isnan(values), 0, np.arange(values.shape[-1]))
    return np.take_along_axis(values, np.maximum.accumulate(steps, -1), -1)


# --- what is learned of the columns of the training part ---


def fit(panel: Panel, ends: Sequence[int], before: Covariates | None = None) -> Covariates:
    """The encoding of all covariates of a panel.

    Args:
        panel: the series.
        ends: of every series, the steps that are its training part.
        before: the encoding of a model that is trained further: numbers keep it, categories are added to it.
    """
    schema, pairs = panel.schema, list(zip(panel.series, ends, strict=True))
    shared = [pair for pair, first in zip(pairs, _first_of_group(panel), strict=True) if first]
    parts = {
        "past": lambda i: (series.past[i, :end] for series, end in shared),
        "known": lambda i: (series.known[i, :end] for series, end in shared),
        "static": lambda i: (series.static[i : i + 1] for series, _ in shared),
    }
    return Covariates(
        *(
            [
                _fitted(name, part(i), schema, getattr(before, role)[i] if before else None)
                for i, name in enumerate(getattr(schema, role))
            ]
            for role, part in parts.items()
        )
    )


def _first_of_group(panel: Panel) -> Iterable[bool]:
    """Of every series whether it is the first of those that share its covariates."""
    return (number == 0 for group in panel.groups for number in range(len(group.names)))


def _fitted(
    name: str, parts: Iterable[NDArray[np.float64]], schema: Schema, before: Covariate | None
) -> Covariate:
    if name in schema.categories and (before is None or before.categories is not None):
        return _categories(name, parts, schema.categories[name], before)
    if before is not None:
        return before
    count, mean, squares, missing = 0, 0.0, 0.0, False
    for part in parts:  # merged as in Chan et al. 1983
        present = part[~np.isnan(part)]
        missing |= len(present) < len(part)
        if len(present):
            total, change = count + len(present), float(present.mean()) - mean
            squares += float(present.var()) * len(present) + change**2 * count * len(present) / total
            mean += change * len(present) / total
            count = total
    return Covariate(name, mean, (squares / max(count, 1)) ** 0.5 or 1.0, missing)


def _categories(
    name: str, parts: Iterable[NDArray[np.float64]], names: Sequence[str], before: Covariate | None
) -> Covariate:
    seen = np.zeros(len(names), bool)
    for part in parts:
        seen[part[~np.isnan(part)].astype(np.int64)] = True
    known = dict.fromkeys(before.categories or [] if before else [])
    new = [category for category, found in zip(names, seen, strict=True) if found and category not in known]
    # The size is fastai's rule of thumb.
    size = before.size if before else min(50, round(1.6 * max(len(new), 1) ** 0.56))
    return Covariate(name, categories=[*known, *new], size=size)


def check_known(panel: Panel, steps: int, source: str) -> None:
    """Raise InputError where what is known in advance does not reach `steps` behind the end of a series."""
    for series in panel.series if panel.schema.known else ():
        rows = series.known.shape[-1] - len(series.values)
        if rows < steps:
            names = ", ".join(panel.schema.known)
            raise InputError(
                f"{source}: the series {series.name!r}: expected {steps} rows behind its last value, which "
                f"tell {names} in advance, got {rows}"
            )
