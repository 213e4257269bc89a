"""Regular time: stamps written as text, the step between them, and counting in such steps.

A stamp is an int64: microseconds since 1970 (UTC where a zone is given), or for a column of whole numbers the
number itself.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from penstock.data.numbers import is_number

Stamps = NDArray[np.int64]

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_WEEK = 7 * _DAY
_SAMPLE = 1 << 16  # stamps that the frequency is guessed from
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK, _MOST_BLOCKS = 4096, 256  # steps of a block of calendar features; blocks kept, some 100 kB each
_DAYS_ONLY = re.compile(r"(19|20)\d{6}")
_LOOSE = re.compile(r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?)?")

Unit = Literal["number", "microsecond", "month", "month end", "weekday"]


@dataclass(frozen=True)
class Frequency:
    """The step of a regular series: `count` of `unit`; "month end" is the last day of each month."""

    unit: Unit
    count: int

    def stamps(self, start: int, positions: Stamps) -> Stamps:
        """The stamps so many steps after the stamp `start`; `positions` has any shape."""
        if self.unit in ("number", "microsecond"):
            return start + self.count * positions
        moment = np.datetime64(start, "us")
        day = moment.astype("M8[D]")
        if self.unit == "weekday":
            days = np.busday_offset(day, positions * self.count, roll="forward")
            return (days.astype("M8[us]") + (moment - day)).astype(np.int64)
        month = moment.astype("M8[M]")
        months = month + self.count * positions
        if self.unit == "month end":
            days = (months + 1).astype("M8[D]") - 1
            return (days.astype("M8[us]") + (moment - day)).astype(np.int64)
        return (months.astype("M8[us]") + (moment - month)).astype(np.int64)

    def positions(self, start: int, stamps: Stamps) -> Stamps:
        """The steps from `start` to each stamp, rounded to whole ones."""
        if self.unit in ("number", "microsecond"):
            return np.rint((stamps - start) / self.count).astype(np.int64)
        moments = stamps.astype("M8[us]")
        if self.unit == "weekday":
            days = np.datetime64(start, "us").astype("M8[D]")
            steps = np.busday_count(days, moments.astype("M8[D]"))
        else:
            month = np.datetime64(start, "us").astype("M8[M]")
            steps = (moments.astype("M8[M]") - month).astype(np.int64)
        return np.rint(steps / self.count).astype(np.int64)

    def show(self, stamp: int) -> str:
        """A stamp as text: a whole number, a date, or a date and a time."""
        if self.unit == "number":
            return str(stamp)
        moment = datetime(1970, 1, 1) + timedelta(microseconds=int(stamp))
        whole_days = self.unit != "microsecond" or self.count % _DAY == 0
        if whole_days and stamp % _DAY == 0:
            return moment.strftime("%Y-%m-%d")
        return moment.isoformat(" ")

    @property
    def season(self) -> int:
        """Steps after which the pattern repeats most clearly: a day, a week or a year; 1 if none is known."""
        if self.unit == "weekday":
            return 5
        if self.unit in ("month", "month end"):
            return max(1, 12 // self.count)
        if self.unit == "number":
            return 1
        for step, cycle in ((_DAY // 2, _DAY), (_DAY, _WEEK), (_WEEK, 52 * _WEEK)):
            if self.count <= step:
                return max(1, cycle // self.count)
        return 1

    @property
    def calendar(self) -> list[str]:
        """The cycles that steps of this length pass through: of "hour", "weekday", "month"."""
        if self.unit == "number":
            return []
        if self.unit in ("month", "month end"):
            return ["month"]
        if self.unit == "weekday":
            return ["weekday", "month"]
        limits = {"hour": _DAY // 2, "weekday": _DAY, "month": 31 * _DAY}
        return [name for name, longest in limits.items() if self.count <= longest]


def parse_stamp(text: str) -> int | None:
    """Microseconds since 1970 of a date or time stamp (ISO 8601, also 2016/7/1 8:00); None for other text."""
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        found = _LOOSE.fullmatch(text)
        if not found:
            return None
        year, month, day = (int(part) for part in found.groups("1")[:3])
        hour, minute, second = (int(part) for part in found.groups("0")[3:])
        try:
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return (moment - _FIRST) // timedelta(microseconds=1)


def parse_number(text: str) -> int | None:
    """The whole number that `text` is, or None."""
    return int(float(text)) if is_number(text) and float(text) % 1 == 0 else None


def counts_steps(text: str) -> bool:
    """Whether time is counted by whole numbers where the first stamp is `text`; 20160701 is a date."""
    return parse_number(text) is not None and not _DAYS_ONLY.fullmatch(text.strip())


def guess_frequency(stamps: Stamps, numbers: bool) -> Frequency:
    """The step that occurs most often; of long series, among the first ones.

    Args:
        stamps: of one series, two or more different ones, in any order.
        numbers: whether they are counted, not dated.
    """
    stamps = np.sort(stamps)
    stamps = stamps[np.diff(stamps, prepend=stamps[0] - 1) > 0][:_SAMPLE]
    step = _most_frequent(np.diff(stamps))
    if numbers:
        return Frequency("number", step)
    if step >= 28 * _DAY and step % _DAY == 0:
        return _monthly(stamps, step)
    weekdays = _weekday(stamps)
    if step == _DAY and weekdays.max() < 5 and np.diff(stamps).max() > _DAY:
        return Frequency("weekday", 1)
    return Frequency("microsecond", step)


def _monthly(stamps: Stamps, step: int) -> Frequency:
    """Steps of months, if all stamps stand on the same day of the month or on its last; else of `step`."""
    days = stamps.astype("M8[us]").astype("M8[D]")
    months = days.astype("M8[M]")
    count = _most_frequent(np.diff(months.astype(np.int64)))
    day_of_month = (days - months.astype("M8[D]")).astype(np.int64)
    if count and (day_of_month == day_of_month[0]).all():
        return Frequency("month", count)
    if count and ((days + 1).astype("M8[M]") > months).all():
        return Frequency("month end", count)
    return Frequency("microsecond", step)


def _most_frequent(steps: NDArray[np.int64]) -> int:
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _weekday(stamps: Stamps) -> NDArray[np.int64]:
    """Monday 0 to Sunday 6."""
    return (stamps // _DAY + 3) % 7  # 1 January 1970 was a Thursday


class Calendar:
    """`calendar_features` of any steps of any series: computed in blocks, of which the latest are kept.

    Args:
        frequency: of the series.
    """

    def __init__(self, frequency: Frequency) -> None:
        self.frequency = frequency
        self._blocks: dict[tuple[int, int], NDArray[np.float32]] = {}

    def features(self, start: int, first: int, last: int) -> NDArray[np.float32]:
        """Of steps `first` to before `last`, which may be negative, of a series that begins at `start`."""
        origin, offset = self._origin(start)
        first, last = first + offset, last + offset
        numbers = range(first // _BLOCK, (last - 1) // _BLOCK + 1)
        steps = np.concatenate([self._block(origin, number) for number in numbers])
        return steps[first - numbers[0] * _BLOCK :][: last - first]

    def _origin(self, start: int) -> tuple[int, int]:
        """A stamp that series of other beginnings share, and the step of `start` counted from there."""
        if self.frequency.unit == "microsecond":
            return start % self.frequency.count, start // self.frequency.count
        return start, 0

    def _block(self, origin: int, number: int) -> NDArray[np.float32]:
        found = self._blocks.get((origin, number))
        if found is None:
            steps = np.arange(number * _BLOCK, (number + 1) * _BLOCK)
            found = calendar_features(self.frequency, self.frequency.stamps(origin, steps))
            if len(self._blocks) == _MOST_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[origin, number] = found
        return found


def calendar_features(frequency: Frequency, stamps: Stamps) -> NDArray[np.float32]:
    """Sine and cosine of where each stamp stands in the cycles of `frequency.calendar`.

    Args:
        frequency: of the series.
        stamps: (T,).

    Returns:
        float32 (T, 2 x cycles).
    """
    month = (stamps.astype("M8[us]").astype("M8[M]").astype(np.int64) % 12) / 12
    phases = {"hour": stamps % _DAY / _DAY, "weekday": _weekday(stamps) / 7, "month": month}
    angles = [(2 * np.pi * phases[name]).astype(np.float32) for name in frequency.calendar]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.stack(waves, 1) if waves else np.zeros((len(stamps), 0), np.float32)
