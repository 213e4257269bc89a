"""Series over time to windows: what the model sees of the past, and the values that then came.

Values are standardised series by series, with mean and standard deviation of the training part. An example is
a series and a target step s: its window is the L steps that end `gap` steps before s, its targets the H steps
from s on. No batch holds a value from the window's end on, except as a target.

Dimensions: N series, T steps, L window, H horizon, B batch, F calendar features.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.frequency import Frequency, calendar_features
from penstock.data.panel import Columns, Panel, TimeSeries, read_panel
from penstock.errors import InputError
from penstock.tasks.forecast.config import ColumnOptions, Config
from penstock.training.job import Batch

Floats = NDArray[np.float32]
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
    """

    frequency: Frequency
    season: int
    missing: bool
    scales: dict[str, Scale]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

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
            return cls(frequency, int(fields["season"]), bool(fields["missing"]), scales)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{source}: expected the scales of series ({error})") from None


class Windows:
    """The examples of a part: `windows[i]` is (series, target step); `batch` makes the tensors.

    Args:
        panel: the series.
        scales: of each of them.
        layout: of the training data, whose series the model knows by number.
        config: window, horizon, gap, segment, calendar.
        examples: int64 (n, 2), place of the series in the panel and target step s.
    """

    def __init__(
        self,
        panel: Panel,
        scales: list[Scale],
        layout: Layout,
        config: Config,
        examples: NDArray[np.int64],
    ) -> None:
        self.panel, self.scales, self.layout = panel, scales, layout
        self.config, self.examples = config, examples
        numbers = {name: number for number, name in enumerate(layout.scales, 1)}
        self.numbers = [numbers.get(series.name, 0) for series in panel.series]
        self._values = [_standardised(*pair) for pair in zip(panel.series, scales, strict=True)]
        self._calendar = _calendars(panel, config)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of the recurrence, int64 (n,)."""
        return np.full(len(self), self.config.window // self.config.segment)

    def __len__(self) -> int:
        return len(self.examples)

    def thinned(self, count: int) -> "Windows":
        """At most `count` examples of every series, spread evenly over those that it has here."""
        numbers = np.unique(self.examples[:, 0])
        rows = [np.flatnonzero(self.examples[:, 0] == number) for number in numbers]
        few = [one[np.unique(np.linspace(0, len(one) - 1, count).round().astype(int))] for one in rows]
        chosen = self.examples[np.concatenate(few)]
        return Windows(self.panel, self.scales, self.layout, self.config, chosen)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        """One example: see `collate`."""
        series, target = map(int, self.examples[index])
        config, values = self.config, self._values[series]
        end = target - config.gap
        first = max(0, end - config.window)
        window = np.full(config.window, np.nan, np.float32)
        window[config.window - (end - first) :] = values[first:end]
        targets = np.full(config.horizon, np.nan, np.float32)
        known = values[target : target + config.horizon]
        targets[: len(known)] = known
        example = {
            "window": window,
            "targets": targets,
            "series": self.numbers[series],
            "scale": self.scales[series],
        }
        if self._calendar:
            example |= self._calendar_of(series, end, target)
        return example

    def _calendar_of(self, series: int, end: int, target: int) -> dict[str, Floats]:
        """Features of the window, zero before the series begins, and of the first step of every segment."""
        config, features = self.config, self._calendar[series]
        past = np.zeros((config.window, features.shape[1]), np.float32)
        known = features[max(0, end - config.window) : end]
        past[config.window - len(known) :] = known
        every = config.segment if config.segment > 1 else config.horizon
        coming = features[target : target + config.horizon : every]
        return {"calendar": past, "coming": coming}


def _standardised(series: TimeSeries, scale: Scale) -> Floats:
    return ((series.values - scale.mean) / scale.deviation).astype(np.float32)


def _calendars(panel: Panel, config: Config) -> list[Floats]:
    """For every series the calendar features float32 (T + gap + H, F); empty if there are none."""
    if not config.calendar or not panel.frequency.calendar:
        return []
    known: dict[tuple[int, int], Floats] = {}
    for series in panel.series:
        key = series.start, len(series.values) + config.gap + config.horizon
        if key not in known:
            stamps = panel.frequency.stamps(key[0], np.arange(key[1]))
            known[key] = calendar_features(panel.frequency, stamps)
    ahead = config.gap + config.horizon
    return [known[series.start, len(series.values) + ahead] for series in panel.series]


def collate(examples: list[dict[str, Any]]) -> Batch:
    """One batch.

    Returns:
        "inputs" (B, L): standardised, missing values filled with the one before them in the window, or 0;
        "observed" (B, L): 1 where the value is its own; "filled" (B, L): 1 where there is one at all;
        "targets" (B, H) with 0 for missing ones, and "known" (B, H), 1 where there is a target;
        "series" int64 (B,), from 1, and 0 for one that the model was not trained on;
        "mean", "deviation", "naive" (B,): see `Scale`; "lengths" int64 (B,);
        with a calendar, "calendar" (B, L, F) and "coming" (B, segments of the horizon, F).
    """
    window = np.stack([example["window"] for example in examples])
    targets = np.stack([example["targets"] for example in examples])
    observed = ~np.isnan(window)
    inputs = fill_forward(window)
    filled = ~np.isnan(inputs)
    scales = np.array([example["scale"] for example in examples], np.float64)
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
    for name in ("calendar", "coming"):
        if name in examples[0]:
            arrays[name] = np.stack([example[name] for example in examples])
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def fill_forward(values: NDArray[Any]) -> NDArray[Any]:
    """Every NaN of (..., T) replaced by the last number before it; those before the first number stay."""
    steps = np.where(np.isnan(values), 0, np.arange(values.shape[-1]))
    return np.take_along_axis(values, np.maximum.accumulate(steps, -1), -1)


# --- from a file to parts ---


def columns(options: ColumnOptions) -> Columns:
    """The columns that the options name."""
    return Columns(options.id_column, options.time_column, options.value_column, options.header)


def prepare(config: Config, folder: Path) -> None:
    """Read the training file and write series, layout, history and the examples of every part to `folder`.

    Raises:
        InputError: whatever is wrong with the file, or parts too short for a forecast.
    """
    panel = read_panel(config.data, columns(config), regularize=config.regularize)
    bounds = [_bounds(config, len(series.values)) for series in panel.series]
    season = config.season or panel.frequency.season
    scales = {
        series.name: scale(series.values[: bound[0]], season)
        for series, bound in zip(panel.series, bounds, strict=True)
    }
    examples = {part: _examples(config, panel, bounds, part) for part in PARTS}
    _check_parts(config, panel, examples)
    missing = _lacks_values(config, panel, bounds, examples["train"])
    layout = Layout(panel.frequency, season, missing, scales)
    (folder / "series.json").write_text(layout.to_json(), encoding="utf-8")
    (folder / "history.json").write_text(history(panel, config.window + season), encoding="utf-8")
    np.savez(
        folder / "panel.npz",
        starts=np.array([series.start for series in panel.series]),
        ends=np.cumsum([len(series.values) for series in panel.series]),
        values=np.concatenate([series.values for series in panel.series]),
        train=examples["train"],
        dev=examples["dev"],
        test=examples["test"],
    )


def open_prepared(config: Config, folder: Path, layout: Layout) -> dict[str, Windows]:
    """The windows of every part that `prepare` wrote."""
    with np.load(folder / "panel.npz") as file:
        values = np.split(file["values"], file["ends"][:-1])
        starts = file["starts"].tolist()
        examples = {part: file[part] for part in PARTS}
    series = [TimeSeries(*fields) for fields in zip(layout.scales, starts, values, strict=True)]
    panel = Panel(layout.frequency, series)
    scales = list(layout.scales.values())
    return {part: Windows(panel, scales, layout, config, examples[part]) for part in PARTS}


def scale(values: NDArray[np.float64], season: int) -> Scale:
    """Mean, standard deviation and seasonal naive error of the values of one series, NaN among them."""
    present = values[~np.isnan(values)]
    if not len(present):
        return Scale(0.0, 1.0, 0.0)
    deviation = float(present.std())
    for lag in (season, 1):
        changes = np.abs(values[lag:] - values[:-lag])
        changes = changes[~np.isnan(changes)]
        if len(changes):
            return Scale(float(present.mean()), deviation or 1.0, float(changes.mean()))
    return Scale(float(present.mean()), deviation or 1.0, 0.0)


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


def _examples(
    config: Config, panel: Panel, bounds: list[tuple[int, int, int]], part: str
) -> NDArray[np.int64]:
    """Series and target step of every forecast whose targets lie in the part."""
    found = []
    for number, (series, ends) in enumerate(zip(panel.series, bounds, strict=True)):
        first = 0 if part == "train" else ends[PARTS.index(part) - 1]
        end = min(ends[PARTS.index(part)], len(series.values))
        stride = config.stride if part == "train" else 1
        targets = target_steps(config, first, end, stride)
        found.append(np.stack([np.full(len(targets), number), targets], 1))
    return np.concatenate(found)


def target_steps(config: Config, first: int, end: int, stride: int = 1) -> NDArray[np.int64]:
    """The first target steps s with targets from step `first` to before `end`, in order.

    Where the series is long enough a whole window lies before s; a series too short for that gives its last
    forecast, with what there is before it.
    """
    last = end - config.horizon
    whole = config.window + config.gap
    if last < max(first, config.gap + 1):
        return np.zeros(0, np.int64)
    return np.arange(min(max(first, whole), last), last + 1, stride)


def _check_parts(config: Config, panel: Panel, examples: Mapping[str, NDArray[np.int64]]) -> None:
    steps = max(len(series.values) for series in panel.series)
    for part in ("train", "dev") if config.test_fraction == 0 and not config.test_steps else PARTS:
        if not len(examples[part]):
            raise InputError(
                f"{config.data}: the {part} part of the longest series ({steps} steps) has no room for a "
                f"forecast of {config.horizon} steps; see --horizon, --train-steps, --dev-steps, --test-steps"
            )


def _lacks_values(
    config: Config, panel: Panel, bounds: list[tuple[int, int, int]], examples: NDArray[np.int64]
) -> bool:
    """Whether a training window is filled up, or a training value missing."""
    if (examples[:, 1] < config.window + config.gap).any():
        return True
    pairs = zip(panel.series, bounds, strict=True)
    return any(bool(np.isnan(series.values[: ends[0]]).any()) for series, ends in pairs)


# --- the end of the data, from which the model forecasts if nothing else is given ---


def history(panel: Panel, steps: int) -> str:
    """The last steps of every series, as JSON."""
    series = [
        {
            "name": one.name,
            "start": int(panel.frequency.stamps(one.start, np.array([max(0, len(one.values) - steps)]))[0]),
            "values": [None if np.isnan(value) else float(value) for value in one.values[-steps:]],
        }
        for one in panel.series
    ]
    return json.dumps(series, ensure_ascii=False) + "\n"


def read_history(text: str, frequency: Frequency, source: str) -> Panel:
    """The panel that `history` wrote.

    Raises:
        InputError: naming `source`, if it is none.
    """
    try:
        return Panel(
            frequency,
            [
                TimeSeries(one["name"], int(one["start"]), np.array(one["values"], np.float64))
                for one in json.loads(text)
            ],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{source}: expected the last values of series ({error})") from None
