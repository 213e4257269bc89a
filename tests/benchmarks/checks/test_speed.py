"""The grid: which figures follow from the times of a case."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.checks import Settings, speed
from benchmarks.figures import FIGURES, Line
from benchmarks.grid import KINDS, Shape
from benchmarks.timing import Contestant, Timing


def settings(shape: Shape, *peers: str, figures: Sequence[str] = tuple(FIGURES)) -> Settings:
    return Settings(frozenset(figures), "short", (shape,), (KINDS["lstm"],), (1, 2), peers, 0.0)


def by_figure(lines: list[Line]) -> dict[str, list[Line]]:
    return {name: [line for line in lines if line.figure == name] for name in {line.figure for line in lines}}


@pytest.fixture
def known_times(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ours takes 2 ms on one thread and 1.25 on two, each of the others 1 ms more than the one before."""
    asked = []

    def in_turns(contestants: Sequence[Contestant], *_: Any, **__: Any) -> list[Timing]:
        asked.append([(c.name, c.threads) for c in contestants])
        names = list(dict.fromkeys(c.name for c in contestants))
        ms = [
            {1: 2.0, 2: 1.25}[c.threads] if c.name == "ours" else 2.0 + names.index(c.name)
            for c in contestants
        ]
        return [Timing(each, 9, (each,)) for each in ms]

    monkeypatch.setattr(speed, "in_turns", in_turns)
    return asked


@pytest.mark.usefixtures("known_times")
def test_value_is_the_best_of_the_others_over_ours() -> None:
    shape = Shape(32, 3, 4, 5)
    lines = by_figure(speed.measure(settings(shape, "torch"), KINDS["lstm"], shape))
    assert lines.keys() == {"inference", "training-lstm", "threads"}
    assert [line.value for line in lines["inference"]] == [1.5, 2.4]
    assert [line.value for line in lines["training-lstm"]] == [1.5, 2.4]
    assert [(line.case, line.value) for line in lines["threads"]] == [
        ("32×3×4×5 forward", 1.6),
        ("32×3×4×5 training", 1.6),
    ]


@pytest.mark.parametrize(
    ("kind", "ragged", "figure"),
    [
        ("lstm-peephole", False, "training-lstm"),
        ("gru-reset-before", False, "training-gru-rnn"),
        ("rnn", False, "training-gru-rnn"),
        ("gru", True, "training-ragged"),
    ],
)
def test_each_cell_counts_in_its_own_row(kind: str, ragged: bool, figure: str) -> None:
    assert speed.training_figure(KINDS[kind], Shape(3, 5, 4, 7, ragged=ragged)) == figure


@pytest.mark.usefixtures("known_times")
def test_one_step_is_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "timed", lambda run: 0.002)
    shape = Shape(1, 1, 64, 64)
    (line,) = speed.measure(settings(shape, "torch", figures=["step"]), KINDS["lstm"], shape)
    assert (line.figure, line.value) == ("step", 2000)


@pytest.mark.usefixtures("known_times")
def test_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(64, 1, 4, 256)
    operations, into_the_state = 2 * 64 * 4 * 256 * 260, 256 / 260
    monkeypatch.setattr(speed._native, "measure_peak", lambda seconds: operations / 1e6)  # 1 ms at the peak
    monkeypatch.setattr(speed, "timed", lambda run: 0.002)
    lines = by_figure(speed.measure(settings(shape), KINDS["lstm"], shape))
    assert [line.value for line in lines["peak-forward"]] == [pytest.approx(50)]
    assert [line.value for line in lines["peak-training"]] == [pytest.approx(50 * (3 - into_the_state))]


def test_only_what_is_asked_for_is_timed(known_times: list[Any]) -> None:
    shape = Shape(3, 5, 4, 7)
    lines = speed.measure(settings(shape, "torch", figures=["training-lstm"]), KINDS["lstm"], shape)
    assert {line.figure for line in lines} == {"training-lstm"}
    assert len(known_times) == 1


@pytest.mark.usefixtures("known_times")
def test_a_peer_that_computes_something_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "peer_failures", lambda *_: {"y": "1e-2"})
    shape = Shape(3, 5, 4, 7)
    lines = speed.measure(settings(shape, "torch", figures=["inference"]), KINDS["lstm"], shape)
    for line in lines:
        assert line.value is None
        assert line.notes == ["torch left out: y off by 1e-2 (threads 1); y off by 1e-2 (threads 2)"]
