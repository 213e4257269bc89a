"""Times of several contestants in turns: bursts of calls, round after round, and their medians."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.contest import Run

ROUNDS = 9
LEAST = 3
"""Timed calls at least, however long one takes."""
SETTLE = 0.015
"""Seconds until the threads of the contestant before have gone to sleep: OpenMP's wait in a loop at first."""
SHORT_CALL = 0.02
"""Bursts of calls under so many seconds start with some that are not timed."""
WARM_UP = 0.01
"""Seconds of those: they fill the caches and wake the threads, which took 4 ms where the system put a thread
that woke on the core of the one that waits for it."""


@dataclass(frozen=True, eq=False)
class Contestant:
    """Something to be timed, on a number of threads."""

    name: str
    threads: int
    run: Run


@dataclass(frozen=True)
class Timing:
    """The median of several calls."""

    ms: float
    repeats: int
    rounds: tuple[float, ...] = ()
    """Of each burst."""

    def over(self, other: "Timing") -> float:
        """How many times as long as the other: in each round the one beside the other, then the median.

        A machine that is slow for a while is so for both, and drops out.
        """
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=False))


def in_turns(contestants: Sequence[Contestant], seconds: float, one_by_one: bool = False) -> list[Timing]:
    """Time each for about `seconds` in `ROUNDS` bursts taken in turns, after one call of each to warm up.

    one_by_one: one call each in every turn, after one that is not timed, as many for all: for inputs that
    change from call to call.
    """
    taken: list[list[float]] = [[] for _ in contestants]
    rounds: list[list[float]] = [[] for _ in contestants]
    burst = 0.0 if one_by_one else seconds / ROUNDS
    time.sleep(SETTLE)  # those of whatever ran before may be awake too
    with _no_garbage_collection():
        for contestant in contestants:
            _settle(contestant, contestants)
            contestant.run()
        while not all(_is_enough(times, seconds) for times in taken):
            for contestant, times, medians in zip(contestants, taken, rounds, strict=True):
                if one_by_one or not _is_enough(times, seconds):
                    _settle(contestant, contestants)
                    if one_by_one:
                        contestant.run()
                    elif not times or times[-1] < SHORT_CALL:
                        _burst(contestant.run, WARM_UP)
                    calls = _burst(contestant.run, burst)
                    times.extend(calls)
                    medians.append(statistics.median(calls) * 1e3)
    return [
        Timing(statistics.median(times) * 1e3, len(times), tuple(medians))
        for times, medians in zip(taken, rounds, strict=True)
    ]


def after(prepare: Callable[[], object], run: Run, seconds: float) -> float:
    """Milliseconds of a call after one of `prepare`, of several in about `seconds` with those: the lower
    quartile, for a limit that a slow moment must not raise."""
    times: list[float] = []
    torch.set_num_threads(1)
    with _no_garbage_collection():
        run()
        end = time.perf_counter() + seconds
        while len(times) < 2 * LEAST or time.perf_counter() < end:
            prepare()
            times.append(timed(run))
    return sorted(times)[len(times) // 4] * 1e3


def _is_enough(times: list[float], seconds: float) -> bool:
    return len(times) >= LEAST and sum(times) >= seconds


def _settle(contestant: Contestant, all_of_them: Sequence[Contestant]) -> None:
    torch.set_num_threads(contestant.threads)
    if any(other.threads > 1 for other in all_of_them):
        time.sleep(SETTLE)


def _burst(run: Run, seconds: float) -> list[float]:
    """The seconds of as many calls as fit, one at least."""
    end = time.perf_counter() + seconds
    times = [timed(run)]
    while time.perf_counter() < end:
        times.append(timed(run))
    return times


def timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
