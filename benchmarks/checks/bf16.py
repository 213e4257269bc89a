"""Our layer in bfloat16 beside itself in float32, on one thread and more, from 256 hidden units."""

import copy
from collections.abc import Iterable
from functools import partial

import torch

from benchmarks import contest as contests
from benchmarks.checks import Case, Settings
from benchmarks.contest import Contest
from benchmarks.figures import Line
from benchmarks.gate import Gate
from benchmarks.grid import Kind, Shape
from benchmarks.timing import Contestant, in_turns
from penstock.ops.recurrence import NATIVE_DTYPES

FIGURES = ("bf16-forward", "bf16-training")
LEAST_HIDDEN = 256


def unavailable() -> dict[str, str]:
    if torch.bfloat16 in NATIVE_DTYPES:
        return {}
    return dict.fromkeys(FIGURES, "this processor multiplies no bfloat16")


def cases(settings: Settings) -> Iterable[Case]:
    if unavailable():
        return
    for kind in settings.kinds:
        for shape in settings.shapes:
            if shape.H >= LEAST_HIDDEN and shape.is_plain:
                yield Case(f"bf16 {kind.name} {shape}", partial(measure, settings, kind, shape))


def measure(settings: Settings, kind: Kind, shape: Shape) -> list[Line]:
    gate = Gate(kind, shape, torch.bfloat16)
    lines = []
    for n in settings.threads:
        failures = gate.failures(n)
        for mode in ("forward", "training"):
            if settings.wants(f"bf16-{mode}"):
                line = Line(f"bf16-{mode}", kind.name, str(shape), n, failures=failures)
                lines.append(line if failures else _timed(line, gate.contest, mode, settings.seconds))
    return lines


def _timed(line: Line, contest: Contest, mode: str, seconds: float) -> Line:
    layers = {"float32": contest.ours, "bf16": copy.deepcopy(contest.ours).bfloat16()}
    runs = {name: getattr(contest, mode)(contests.call_ours, layer) for name, layer in layers.items()}
    timings = in_turns([Contestant(name, line.threads, run) for name, run in runs.items()], seconds)
    line.times = {name: t.ms for name, t in zip(runs, timings, strict=True)}
    line.repeats = min(t.repeats for t in timings)
    float32, bf16 = timings
    line.value = float32.over(bf16)
    return line
