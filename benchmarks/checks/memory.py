"""Peak memory of a training step of the layer, ours and torch's, each in a process of its own.

The process has run a smaller step before, so that libraries and threads are there; what counts is how far
the resident memory rises above that in three training steps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import child
from benchmarks import contest as contests
from benchmarks.checks import Case, Settings
from benchmarks.contest import Contest
from benchmarks.figures import Line
from benchmarks.gate import Gate
from benchmarks.grid import KINDS, Kind, Shape

FIGURES = ("memory",)
SHORT = (Shape(32, 100, 128, 128),)
FULL = (
    Shape(32, 500, 32, 32),
    Shape(64, 100, 256, 256),
    Shape(64, 100, 256, 256, ragged=True),
    Shape(32, 100, 128, 128, L=2, bidirectional=True),
)
STEPS = 3
RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def unavailable() -> dict[str, str]:
    return {} if RESET.exists() else {"memory": "only where there is /proc/self/clear_refs"}


def cases(settings: Settings) -> Iterable[Case]:
    if unavailable() or "torch" not in settings.peers:
        return
    shapes = FULL if settings.is_full else SHORT
    kinds = [kind for kind in settings.kinds if settings.is_full or kind.is_stock]
    for kind in kinds:
        for shape in shapes:
            yield Case(f"memory {kind.name} {shape}", partial(measure, kind, shape))


def measure(kind: Kind, shape: Shape) -> list[Line]:
    line = Line("memory", kind.name, str(shape), 1, failures=Gate(kind, shape).failures(1))
    if not line.failures:
        arguments = {"kind": kind.name, "shape": asdict(shape)}
        for side in ("ours", "torch"):
            line.times[side] = child.run("benchmarks.checks.memory:peak", {**arguments, "side": side}, 1)
        line.value = line.times["ours"] / line.times["torch"]
        line.repeats = STEPS
        line.notes = ["MiB"]
    return [line]


def peak(kind: str, shape: Mapping[str, Any], side: str) -> float:
    """MiB that a training step takes above what there was before; for `benchmarks.child`."""
    torch.set_num_threads(1)
    _training(KINDS[kind], Shape(2, 2, 8, 8), side)()
    run = _training(KINDS[kind], Shape(**shape), side)
    RESET.write_text("5")  # the peak starts again from what is resident now
    before = _status("VmRSS")
    for _ in range(STEPS):
        run()
    return (_status("VmHWM") - before) / 1024


def _training(kind: Kind, shape: Shape, side: str) -> contests.Run:
    contest = Contest(kind, shape)
    if side == "ours":
        return contest.training(contests.call_ours, contest.ours)
    return contest.training(contests.call_torch, contest.theirs)


def _status(name: str) -> int:
    """A figure of this process in KiB."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
