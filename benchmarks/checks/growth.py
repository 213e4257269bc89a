"""How the time grows with the number of steps: that of a step in long sequences over that in one of 100."""

from collections.abc import Iterable
from functools import partial

from benchmarks import contest as contests
from benchmarks import roofline
from benchmarks.checks import Case, Settings
from benchmarks.figures import Line
from benchmarks.gate import Gate
from benchmarks.grid import KINDS, Shape
from benchmarks.timing import Contestant, Timing, in_turns

FIGURES = ("growth",)
KIND = KINDS["lstm"]
BATCHES = (1, 32)
SIZE = 32
"""Input and hidden size."""
SHORT = (100, 1_000, 4_000)
FULL = (100, 1_000, 10_000, 100_000)


def unavailable() -> dict[str, str]:
    return {}


def cases(settings: Settings) -> Iterable[Case]:
    steps = FULL if settings.is_full else SHORT
    for B in BATCHES if KIND in settings.kinds else ():
        yield Case(f"growth {B}", partial(measure, B, steps, settings.seconds))


def measure(B: int, steps: tuple[int, ...], seconds: float) -> list[Line]:
    gates = {T: Gate(KIND, Shape(B, T, SIZE, SIZE)) for T in steps}
    failures = {T: gate.failures(1) for T, gate in gates.items()}
    right = [T for T in steps if not failures[T]]
    lines = []
    for mode in ("forward", "training"):
        contestants = [
            Contestant(str(T), 1, getattr(gate.contest, mode)(contests.call_ours, gate.contest.ours))
            for T, gate in gates.items()
            if T in right
        ]
        times = dict(zip(right, in_turns(contestants, seconds), strict=True))
        for T in steps[1:]:
            line = _line(B, mode, T, times, failures[T] or failures[SHORT[0]])
            if line.value is not None:
                short, short_ms = gates[SHORT[0]].contest, times[SHORT[0]].ms
                line.limit = roofline.over_short(gates[T].contest, mode, short, short_ms)
            lines.append(line)
    return lines


def _line(B: int, mode: str, T: int, times: dict[int, Timing], failures: dict[str, str]) -> Line:
    line = Line("growth", KIND.name, f"{B}×{T}×{SIZE}×{SIZE} {mode}", 1, failures=failures)
    if not failures:
        line.times = {f"{steps} steps": times[steps].ms for steps in (SHORT[0], T)}
        line.repeats = min(times[steps].repeats for steps in (SHORT[0], T))
        line.value = (times[T].ms / T) / (times[SHORT[0]].ms / SHORT[0])
    return line
