"""The first call of a layer on a shape that the process has not seen: there oneDNN compiles.

A median over several odd shapes, which no other check has. Ours and torch go first in turns; they are
checked after they are timed, for a check would be the first call.
"""

import time
from collections.abc import Iterable
from functools import partial
from statistics import median

import torch

from benchmarks import contest as contests
from benchmarks.checks import Case, Settings
from benchmarks.contest import Contest, Run
from benchmarks.figures import Line
from benchmarks.gate import Gate
from benchmarks.grid import KINDS, Kind, Shape

FIGURES = ("first-call",)
SHAPES = 6


def shapes(kind: Kind, threads: int) -> list[Shape]:
    """Shapes of this cell and number of threads alone: torch runs the same layer beside two of our cells."""
    own = 40 * list(KINDS).index(kind.name) + 3 * threads
    return [Shape(19 + k, 37 + 2 * k, 71 + 6 * k + own, 93 + 10 * k) for k in range(SHAPES)]


def unavailable() -> dict[str, str]:
    return {}


def cases(settings: Settings) -> Iterable[Case]:
    if "torch" not in settings.peers:
        return
    for kind in settings.kinds:
        for n in settings.threads:
            yield Case(f"first-call {kind.name} {n}", partial(measure, kind, n))


def measure(kind: Kind, threads: int) -> list[Line]:
    """A line for forward, and one for training, whose first call comes after that of forward."""
    torch.set_num_threads(threads)
    taken: dict[str, dict[str, list[float]]] = {
        mode: {"ours": [], "torch": []} for mode in ("forward", "training")
    }
    for k, shape in enumerate(shapes(kind, threads)):
        contest = Contest(kind, shape)
        sides = [("ours", contests.call_ours, contest.ours), ("torch", contests.call_torch, contest.theirs)]
        for mode, times in taken.items():
            for side, call, layer in sides if k % 2 else sides[::-1]:
                times[side].append(_once(getattr(contest, mode)(call, layer)))
    failures = {
        f"{shape}: {name}": errors
        for shape in shapes(kind, threads)
        for name, errors in Gate(kind, shape).failures(threads).items()
    }
    return [_line(kind, mode, threads, times, failures) for mode, times in taken.items()]


def _once(run: Run) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def _line(
    kind: Kind, mode: str, threads: int, taken: dict[str, list[float]], failures: dict[str, str]
) -> Line:
    line = Line("first-call", kind.name, mode, threads, failures=failures)
    if not failures:
        line.times = {side: median(times) for side, times in taken.items()}
        line.value = line.times["torch"] / line.times["ours"]
        line.repeats = SHAPES
    return line
