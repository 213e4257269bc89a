"""Time stamps, and the steps between them."""

import numpy as np
import pytest

from penstock.data.frequency import (
    Calendar,
    Frequency,
    calendar_features,
    counts_steps,
    guess_frequency,
    parse_number,
    parse_stamp,
)

_HOUR = 3_600_000_000


def stamps(*texts: str) -> np.ndarray:
    found = [parse_stamp(text) for text in texts]
    assert None not in found
    return np.array(found, np.int64)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-07-01 08:00", "2016-07-01T08:00:00"),
        ("2016/7/1 8:00", "2016-07-01 08:00:00"),
        ("20160701", "2016-07-01"),
        ("2016-07", "2016-07-01"),
        ("2016-07-01T10:00:00+02:00", "2016-07-01 08:00"),
        ("2016-07-01T08:00:00Z", "2016-07-01 08:00"),
    ],
)
def test_a_stamp_is_read_however_it_is_written(text: str, same: str) -> None:
    assert parse_stamp(text) == parse_stamp(same) == np.datetime64(same, "us").astype(np.int64)


def test_what_is_no_stamp_is_none() -> None:
    assert [parse_stamp(text) for text in ("", "soon", "2016-13-01", "1.5")] == [None] * 4
    assert [parse_number(text) for text in ("7", "7.0", "7.5", "x")] == [7, 7, None, None]
    assert [counts_steps(text) for text in ("7", "1990", "20160701", "2016-07-01")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("texts", "frequency", "after", "season"),
    [
        (
            ["2020-01-01 00:00", "2020-01-01 01:00"],
            Frequency("microsecond", _HOUR),
            "2020-01-01 02:00:00",
            24,
        ),
        (["2020-01-01", "2020-01-02", "2020-01-03"], Frequency("microsecond", 24 * _HOUR), "2020-01-04", 7),
        (["2020-01-01", "2020-01-08"], Frequency("microsecond", 168 * _HOUR), "2020-01-15", 52),
        (["2020-01-31", "2020-02-29", "2020-03-31"], Frequency("month end", 1), "2020-04-30", 12),
        (["2019-11-01", "2019-12-01", "2020-01-01"], Frequency("month", 1), "2020-02-01", 12),
        (["2019-01-01", "2019-04-01", "2019-07-01"], Frequency("month", 3), "2019-10-01", 4),
        (["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07"], Frequency("weekday", 1), "2020-01-08", 5),
    ],
)
def test_the_step_is_guessed_and_counted(
    texts: list[str], frequency: Frequency, after: str, season: int
) -> None:
    found = stamps(*texts)
    assert guess_frequency(found, numbers=False) == frequency
    steps = np.arange(len(found))
    start = int(found[0])
    assert frequency.stamps(start, steps).tolist() == found.tolist()
    assert frequency.positions(start, found).tolist() == steps.tolist()
    assert frequency.show(int(frequency.stamps(start, np.array([len(found)]))[0])) == after
    assert frequency.season == season


def test_numbers_are_counted() -> None:
    frequency = guess_frequency(np.array([1990, 1992, 1994, 1998]), numbers=True)
    assert frequency == Frequency("number", 2)
    assert frequency.show(int(frequency.stamps(1990, np.array([3]))[0])) == "1996"
    assert (frequency.season, frequency.calendar) == (1, [])


def test_calendar_features_are_on_the_circle() -> None:
    hourly = Frequency("microsecond", _HOUR)
    assert hourly.calendar == ["hour", "weekday", "month"]
    found = calendar_features(hourly, stamps("2024-01-01 06:00", "2024-04-01 12:00"))  # both are Mondays
    expected = [[1, 0, 0, 1, 0, 1], [0, -1, 0, 1, 1, 0]]
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    assert Frequency("microsecond", 24 * _HOUR).calendar == ["weekday", "month"]
    assert Frequency("month", 1).calendar == ["month"]
    assert calendar_features(Frequency("number", 1), np.arange(3)).shape == (3, 0)


@pytest.mark.parametrize(
    ("frequency", "start"),
    [
        (Frequency("microsecond", _HOUR), "2020-05-07 03:00"),
        (Frequency("microsecond", 7 * _HOUR), "1969-12-31 23:30"),
        (Frequency("month end", 1), "2020-01-31"),
        (Frequency("weekday", 1), "2020-01-02"),
    ],
)
def test_blocks_of_calendar_features_are_those_of_the_steps(frequency: Frequency, start: str) -> None:
    calendar = Calendar(frequency)
    (first,) = stamps(start).tolist()
    for begin, end in ((0, 5), (4000, 5000), (-3, 9), (8191, 8192), (100, 9000)):
        expected = calendar_features(frequency, frequency.stamps(first, np.arange(begin, end)))
        assert np.array_equal(calendar.features(first, begin, end), expected)


def test_few_blocks_are_kept() -> None:
    calendar = Calendar(Frequency("microsecond", _HOUR))
    for number in range(300):
        calendar.features(number, 0, 1)
    assert len(calendar._blocks) == 256
