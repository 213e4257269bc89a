"""Series over time to windows: what the model sees of the past, and the values that then came.

Values are standardised series by series, with mean and standard deviation of the training part. An example is
a series and a target step s: its window is the L steps that end `gap` steps before s, its targets the H steps
from s on. No batch holds a value from the window's end on, except as a target.

Dimensions: N series, T steps, L window, H horizon, B batch, F calendar features.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.frequency import Calendar, Frequency
from penstock.data.panel import Columns, Group, Panel, Schema, TimeSeries, open_panel, read_panel
from penstock.errors import InputError
from penstock.tasks.forecast.config import ColumnOptions, Config
from penstock.tasks.forecast.covariates import Covariate, Covariates, Encoder, fill_forward, fit
from penstock.training.job import Batch
from penstock.training.saved import read_model

PARTS = ("train", "dev", "test")


class Scale(NamedTuple):
    """How a series is standardised, and what its errors are compared with.

    Attributes:
        mean, deviation: of the training part; the deviation is 1 where the part is constant.
        naive: mean absolute difference to the value one season before in the training part, the unit of MASE;
            0 if there is none.
    """

    mean: float
    deviation: float
    naive: float


@dataclass(frozen=True)
class Layout:
    """What the encoding of series depends on; stored with the model as series.json.

    Attributes:
        frequency: of all series.
        season: steps.
        missing: whether a window of the training data lacks a value, so that the model is told of it.
        scales: of every series of the training data, by name.
        covariates: how they are encoded.
    """

    frequency: Frequency
    season: int
    missing: bool
    scales: dict[str, Scale]
    covariates: Covariates

    def to_json(self) -> str:
        fields = asdict(self) | {"covariates": [[asdict(one) for one in role] for role in self.covariates]}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """The layout that `to_json` wrote.

        Raises:
            InputError: naming `source`, if it is none.
        """
        try:
            fields = json.loads(text)
            scales = {name: Scale(*map(float, scale)) for name, scale in fields["scales"].items()}
            frequency = Frequency(**fields["frequency"])
            covariates = Covariates(*([Covariate(**one) for one in role] for role in fields["covariates"]))
            return cls(frequency, int(fields["season"]), bool(fields["missing"]), scales, covariates)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{source}: expected the scales of series ({error})") from None


class Origins:
    """The examples of many series, held as a range of target steps for each.

    `origins[i]`, with a number, a slice or an array of numbers, gives series and target step, int64 (..., 2).

    Args:
        ranges: int64 (N, 4): series, first target step, steps to the next one, how many; none of them empty.
    """

    def __init__(self, ranges: NDArray[np.int64]) -> None:
        self.ranges = ranges
        self._ends = np.cumsum(ranges[:, 3])

    @classmethod
    def of(cls, targets: Iterable[tuple[int, range]]) -> Self:
        """From the number of each series with its target steps."""
        found = [(number, steps.start, steps.step, len(steps)) for number, steps in targets if len(steps)]
        return cls(np.array(found, np.int64).reshape(-1, 4))

    def __len__(self) -> int:
        return int(self.ranges[:, 3].sum())

    def __getitem__(self, index: int | slice | NDArray[np.int64]) -> NDArray[np.int64]:
        places = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        rows = np.searchsorted(self._ends, places, side="right")
        series, first, step, count = np.moveaxis(self.ranges[rows], -1, 0)
        return np.stack([series, first + step * (places - self._ends[rows] + count)], -1)


class Windows:
    """The examples of a part: `windows[i]` is one of them; `collate` makes the tensors.

    Args:
        panel: the series.
        scales: of each of them.
        layout: of the training data, whose series the model knows by number.
        config: window, horizon, gap, segment, calendar.
        examples: int64 (n, 2), place of the series in the panel and target step s; or what gives such rows.
    """

    def __init__(
        self,
        panel: Panel,
        scales: list[Scale],
        layout: Layout,
        config: Config,
        examples: Origins | NDArray[np.int64],
    ) -> None:
        self.panel, self.scales, self.layout = panel, scales, layout
        self.config, self.examples = config, examples
        numbers = {name: number for number, name in enumerate(layout.scales, 1)}
        self.numbers = [numbers.get(series.name, 0) for series in panel.series]
        self._encoders = [Encoder(role, panel.schema.categories) for role in layout.covariates]
        self._calendar = Calendar(panel.frequency) if config.calendar else None
        self._has_features = config.calendar or any(layout.covariates)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of the recurrence, int64 (n,), all the same."""
        return np.broadcast_to(np.int64(self.config.window // self.config.segment), len(self))

    def __len__(self) -> int:
        return len(self.examples)

    def thinned(self, count: int) -> "Windows":
        """At most `count` examples, spread evenly over the series and their steps."""
        places = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return Windows(self.panel, self.scales, self.layout, self.config, self.examples[places])

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        """One example: see `collate`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """Several of them, as a DataLoader asks for them."""
        return [self._example(*origin) for origin in self.examples[np.array(indices)].tolist()]

    def _example(self, number: int, target: int) -> dict[str, Any]:
        series, end = self.panel.series[number], target - self.config.gap
        example = {
            "window": _cut(series.values, end - self.config.window, end),
            "targets": _cut(series.values, target, target + self.config.horizon),
            "series": self.numbers[number],
            "scale": self.scales[number],
        }
        return example | (self._features(series, end, target) if self._has_features else {})

    def _features(self, series: TimeSeries, end: int, target: int) -> dict[str, NDArray[Any]]:
        """Covariates and calendar: of what is known in advance for the horizon, too."""
        window, horizon = self.config.window, self.config.horizon
        past, known, static = self._encoders
        before = _cut(series.past, end - window, end)
        ahead = _cut(series.known, end - window, target + horizon)
        numbers = known.numbers(ahead)
        if self._calendar:
            calendar = self._calendar.features(series.start, end - window, target + horizon)
            numbers = np.concatenate([numbers, calendar], 1)
        gap = slice(window, window + self.config.gap)
        return {
            "past_numbers": past.numbers(before),
            "past_codes": past.codes(before),
            "known_numbers": np.delete(numbers, gap, 0),
            "known_codes": np.delete(known.codes(ahead), gap, 0),
            "static_numbers": static.numbers(series.static[:, None])[0],
            "static_codes": static.codes(series.static[:, None])[0],
        }


def _cut(values: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
    """Steps `first` to before `last` of (..., T), NaN outside."""
    found = np.full((*values.shape[:-1], last - first), np.nan)
    inside = values[..., max(first, 0) : last]
    before = max(-first, 0)
    found[..., before : before + inside.shape[-1]] = inside
    return found


def collate(examples: list[dict[str, Any]]) -> Batch:
    """One batch.

    Returns:
        "inputs" (B, L): standardised, missing values filled with the one before them in the window, or 0;
        "observed" (B, L): 1 where the value is its own; "filled" (B, L): 1 where there is one at all;
        "targets" (B, H) with 0 for missing ones, and "known" (B, H), 1 where there is a target;
        "series" int64 (B,), from 1, and 0 for one that the model was not trained on;
        "mean", "deviation", "naive" (B,): see `Scale`; "lengths" int64 (B,);
        with covariates or a calendar, numbers float32 and codes of categories int64: "past_numbers" and
        "past_codes" (B, L, columns), "known_numbers" and "known_codes" (B, L + H, columns), of the window and
        then of the horizon, "static_numbers" and "static_codes" (B, columns).
    """
    scales = np.array([example["scale"] for example in examples], np.float64)
    window, targets = (
        ((np.stack([example[name] for example in examples]) - scales[:, :1]) / scales[:, 1:2]).astype(
            np.float32
        )
        for name in ("window", "targets")
    )
    observed = ~np.isnan(window)
    inputs = fill_forward(window)
    filled = ~np.isnan(inputs)
    arrays: dict[str, NDArray[Any]] = {
        "inputs": np.nan_to_num(inputs),
        "observed": observed.astype(np.float32),
        "filled": filled.astype(np.float32),
        "targets": np.nan_to_num(targets),
        "known": (~np.isnan(targets)).astype(np.float32),
        "series": np.array([example["series"] for example in examples], np.int64),
        "mean": scales[:, 0],
        "deviation": scales[:, 1],
        "naive": scales[:, 2],
        "lengths": np.full(len(examples), window.shape[1], np.int64),
    }
    for name in examples[0].keys() - {"window", "targets", "series", "scale"}:
        arrays[name] = np.stack([example[name] for example in examples])
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


# --- from a file to parts ---


def columns(options: ColumnOptions, layout: Layout | None = None) -> Columns:
    """The columns that the options name; with the layout of a model, categorical are those that are there."""
    roles = {
        "target": options.target,
        "past": options.past_columns,
        "known": options.known_columns,
        "static": options.static_columns,
        "categorical": options.categorical_columns,
    }
    if layout is not None:
        columns = (column for role in layout.covariates for column in role)
        roles["categorical"] = [column.name for column in columns if column.categories is not None]
    names = {role: tuple(names) for role, names in roles.items()}
    return Columns(
        id=options.id_column, time=options.time_column, header=options.header, infer=layout is None, **names
    )


def prepare(config: Config, folder: Path) -> None:
    """Read the training file and write series, layout, history and the examples of every part to `folder`.

    Raises:
        InputError: whatever is wrong with the file, or parts too short for a forecast.
    """
    before = _layout_before(config)
    frequency = before.frequency if before else None
    panel = read_panel(config.data, columns(config, before), frequency, config.regularize, folder)
    if config.counts:
        check_counts(panel, str(config.data))
    bounds = [_bounds(config, len(series.values)) for series in panel.series]
    season = before.season if before else config.season or panel.frequency.season
    scales = {
        series.name: scale(series.values[: bound[0]], season, shift=not config.counts)
        for series, bound in zip(panel.series, bounds, strict=True)
    }
    examples = {part: _examples(config, panel, bounds, part) for part in PARTS}
    _check_parts(config, panel, examples)
    missing = before.missing if before else _lacks_values(config, panel, bounds, examples["train"])
    covariates = fit(panel, [bound[0] for bound in bounds], before.covariates if before else None)
    if before:
        scales = before.scales | {name: new for name, new in scales.items() if name not in before.scales}
    layout = Layout(panel.frequency, season, missing, scales, covariates)
    (folder / "series.json").write_text(layout.to_json(), encoding="utf-8")
    (folder / "history.json").write_text(history(panel, config.window + season), encoding="utf-8")
    for part in PARTS:
        np.save(folder / f"{part}.npy", examples[part].ranges)


def _layout_before(config: Config) -> Layout | None:
    """That of the model which the training starts from."""
    if config.resume_from is None:
        return None
    saved = read_model(config.resume_from, task="forecast")
    return Layout.from_json(saved.assets["series.json"], str(saved.folder / "series.json"))


def open_prepared(config: Config, folder: Path, layout: Layout) -> dict[str, Windows]:
    """The windows of every part that `prepare` wrote."""
    panel = Panel(folder)
    scales = [layout.scales[series.name] for series in panel.series]
    examples = {part: Origins(np.load(folder / f"{part}.npy")) for part in PARTS}
    return {part: Windows(panel, scales, layout, config, examples[part]) for part in PARTS}


def scale(values: NDArray[np.float64], season: int, shift: bool = True) -> Scale:
    """Mean (0 without `shift`), deviation and seasonal naive error of one series, which may hold NaN."""
    present = values[~np.isnan(values)]
    if not len(present):
        return Scale(0.0, 1.0, 0.0)
    mean = float(present.mean()) if shift else 0.0
    deviation = float(present.std()) or 1.0
    for lag in (season, 1):
        changes = np.abs(values[lag:] - values[:-lag])
        changes = changes[~np.isnan(changes)]
        if len(changes):
            return Scale(mean, deviation, float(changes.mean()))
    return Scale(mean, deviation, 0.0)


def check_counts(panel: Panel, source: str) -> None:
    """Raise InputError, naming series and step, for a value that is no count."""
    for series in panel.series:
        wrong = (series.values < 0) | (series.values % 1 > 0)
        if wrong.any():
            step = int(wrong.argmax())
            stamp = panel.frequency.show(int(panel.frequency.stamps(series.start, np.array([step]))[0]))
            raise InputError(
                f"{source}: --loss negative-binomial: expected whole numbers from 0, got "
                f"{series.values[step]:g} in the series {series.name!r} at {stamp}"
            )


def _bounds(config: Config, length: int) -> tuple[int, int, int]:
    """Where the training, dev and test steps of a series of `length` steps end."""
    dev = config.dev_steps or int(config.dev_fraction * length + 1e-9)
    if config.train_steps is not None:
        test = config.test_steps or int(config.test_fraction * length + 1e-9)
        ends = (config.train_steps, config.train_steps + dev, config.train_steps + dev + test)
        return ends[0], min(ends[1], length), min(ends[2], length)
    if config.test_steps is None:
        test_start = int((1 - config.test_fraction) * length + 1e-9)
    else:
        test_start = length - config.test_steps
    if config.dev_steps is None and config.test_steps is None:
        train_end = int((1 - config.test_fraction - config.dev_fraction) * length + 1e-9)
    else:
        train_end = test_start - dev
    return max(0, train_end), max(0, test_start), length


def _examples(config: Config, panel: Panel, bounds: list[tuple[int, int, int]], part: str) -> Origins:
    """Series and target step of every forecast whose targets lie in the part."""
    found = []
    for number, (series, ends) in enumerate(zip(panel.series, bounds, strict=True)):
        first = 0 if part == "train" else ends[PARTS.index(part) - 1]
        end = min(ends[PARTS.index(part)], len(series.values))
        stride = config.stride if part == "train" else 1
        targets = target_steps(config, first, end, stride)
        found.append((number, targets))
    return Origins.of(found)


def target_steps(config: Config, first: int, end: int, stride: int = 1) -> range:
    """The first target steps s with targets from step `first` to before `end`, in order.

    Where the series is long enough a whole window lies before s; a series too short for that gives its last
    forecast, with what there is before it.
    """
    last = end - config.horizon
    whole = config.window + config.gap
    if last < max(first, config.gap + 1):
        return range(0)
    return range(min(max(first, whole), last), last + 1, stride)


def _check_parts(config: Config, panel: Panel, examples: Mapping[str, Origins]) -> None:
    steps = max(len(series.values) for series in panel.series)
    for part in ("train", "dev") if config.test_fraction == 0 and not config.test_steps else PARTS:
        if not len(examples[part]):
            raise InputError(
                f"{config.data}: the {part} part of the longest series ({steps} steps) has no room for a "
                f"forecast of {config.horizon} steps; see --horizon, --train-steps, --dev-steps, --test-steps"
            )


def _lacks_values(
    config: Config, panel: Panel, bounds: list[tuple[int, int, int]], examples: Origins
) -> bool:
    """Whether a training window is filled up, or a training value missing."""
    if (examples.ranges[:, 1] < config.window + config.gap).any():
        return True
    pairs = zip(panel.series, bounds, strict=True)
    return any(bool(np.isnan(series.values[: ends[0]]).any()) for series, ends in pairs)


# --- the end of the data, from which the model forecasts if nothing else is given ---


def history(panel: Panel, steps: int) -> str:
    """The last steps of every series, and all that is known of the coming ones, as JSON."""
    schema = asdict(panel.schema)
    groups, series = [], iter(panel.series)
    for group in panel.groups:
        members = [next(series) for _ in group.names]
        first = max(0, group.steps - steps)
        start = int(panel.frequency.stamps(group.start, np.array([first]))[0])
        rows = [
            *(one.values[first:] for one in members),
            *members[0].past[:, first:],
            *members[0].known[:, first:],
        ]
        groups.append(
            asdict(replace(group, start=start, steps=group.steps - first))
            | {"rows": [[None if np.isnan(value) else float(value) for value in row] for row in rows]}
        )
    return json.dumps({"schema": schema, "groups": groups}, ensure_ascii=False) + "\n"


def read_history(text: str, source: str) -> Panel:
    """The panel that `history` wrote.

    Raises:
        InputError: naming `source`, if it is none.
    """
    try:
        fields = json.loads(text)
        schema = Schema(Frequency(**fields["schema"].pop("frequency")), **fields["schema"])
        rows = [[np.array(row, np.float64) for row in group.pop("rows")] for group in fields["groups"]]
        groups = [Group(**group) for group in fields["groups"]]
        longest = [max(map(len, some)) for some in rows]
        padded = (
            (np.pad(row, (0, length - len(row)), constant_values=np.nan) for row in some)
            for some, length in zip(rows, longest, strict=True)
        )
        return open_panel(schema, zip(groups, padded, strict=True))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{source}: expected the last values of series ({error})") from None
