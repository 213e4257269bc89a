"""Times in turns."""

import gc
import itertools
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks.timing import LEAST, ROUNDS, Contestant, Timing, after, in_turns


def test_median_of_the_calls_in_ms() -> None:
    pauses = iter([0.0, 0.0, 0.001, 0.2, 0.001, 0.001])

    def run() -> None:
        time.sleep(next(pauses, 0.001))

    (timing,) = in_turns([Contestant("sleeper", 1, run)], 0.0)
    assert timing.repeats == LEAST
    assert 1 <= timing.ms < 100


def test_a_slow_phase_drops_out_of_a_comparison() -> None:
    one, other = Timing(4.0, 3, (2.0, 20.0, 4.0)), Timing(2.0, 4, (1.0, 10.0, 2.0, 50.0))
    assert one.over(other) == 2.0


def test_contestants_take_turns_on_their_own_number_of_threads() -> None:
    calls: list[tuple[str, int]] = []
    contestants = [
        Contestant(name, n, lambda name=name: calls.append((name, torch.get_num_threads())))
        for name, n in (("a", 1), ("b", 2))
    ]
    in_turns(contestants, 0.0, one_by_one=True)
    a, b = ("a", 1), ("b", 2)
    assert calls == [a, b] + [a, a, b, b] * LEAST


def test_bursts_take_about_the_seconds_asked_for() -> None:
    order: list[str] = []
    contestants = [
        Contestant(name, 1, lambda name=name, pause=pause: (order.append(name), time.sleep(pause)))
        for name, pause in (("quick", 0.001), ("slow", 0.01))
    ]
    quick, slow = in_turns(contestants, 0.1)
    assert 20 <= quick.repeats <= 110
    assert LEAST <= slow.repeats <= 20
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes >= ROUNDS


def test_each_call_comes_after_something_that_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("benchmarks.timing.time", clock)
    order: list[str] = []
    durations = iter([9.0, 4.0, 2.0, 1.0, 5.0, 3.0, 6.0])  # the first one warms up

    def run() -> None:
        order.append("run")
        clock.now += next(durations)

    def prepare() -> None:
        order.append("prepare")
        clock.now += 100

    assert after(prepare, run, 0.0) == 2000  # the lower quartile
    assert order == ["run"] + ["prepare", "run"] * 2 * LEAST


def test_garbage_is_collected_afterwards() -> None:
    during = []
    in_turns([Contestant("looker", 1, lambda: during.append(gc.isenabled()))], 0.0)
    assert during == [False] * len(during)
    assert gc.isenabled()
