"""One step of one row through the NumPy-level call of `penstock.runtime`, beside ONNX Runtime.

Both take NumPy arrays and give NumPy arrays, with the state handed in and out. The limit: the weights read
once, and the call of a layer of one unit.
"""

from collections.abc import Iterable
from functools import partial

import torch

from benchmarks import peers, roofline
from benchmarks.checks import Case, Settings
from benchmarks.contest import Contest, named_results
from benchmarks.figures import Line
from benchmarks.gate import peer_failures
from benchmarks.grid import Kind, Shape
from benchmarks.timing import Contestant, in_turns
from penstock.runtime import Layer

FIGURES = ("step-numpy",)
SHAPES = (Shape(1, 1, 64, 64), Shape(1, 1, 256, 256))


def unavailable() -> dict[str, str]:
    if peers.missing("onnxruntime"):
        return {"step-numpy": "onnxruntime is not installed"}
    return {}


def cases(settings: Settings) -> Iterable[Case]:
    if unavailable() or "onnxruntime" not in settings.peers:
        return
    for kind in settings.kinds:
        for shape in SHAPES:
            yield Case(f"steps {kind.name} {shape}", partial(measure, settings, kind, shape))


def measure(settings: Settings, kind: Kind, shape: Shape) -> list[Line]:
    contest, ours, peer = Contest(kind, shape), _Ours(kind, shape), peers.load("onnxruntime")
    smallest = _Ours(kind, Shape(1, 1, 1, 1))
    line = Line("step-numpy", kind.name, str(shape), 1, failures=peer_failures(contest, ours.results))
    if line.failures:
        return [line]
    runs = {"ours": ours.run, "onnxruntime": peer.run(contest, 1), "one unit": smallest.run}
    contestants = [Contestant(name, 1, run) for name, run in runs.items()]
    timings = in_turns(contestants, settings.seconds)
    line.times = {c.name: t.ms for c, t in zip(contestants, timings, strict=True)}
    line.repeats = min(t.repeats for t in timings)
    ours, theirs, _ = timings
    line.value = theirs.over(ours)
    line.limit = line.times["onnxruntime"] / (roofline.work_ms(contest, "forward") + line.times["one unit"])
    return [line]


class _Ours:
    """`penstock.runtime.Layer` of the same weights: layer(x, *states) to (y, *new states), NumPy arrays."""

    def __init__(self, kind: Kind, shape: Shape) -> None:
        contest = Contest(kind, shape)
        weights = {name: p.detach().numpy() for name, p in contest.ours.named_parameters()}
        self.layer = Layer(kind.cell, weights, threads=1)
        self.x, self.hx = contest.x.numpy(), [h.numpy() for h in contest.hx]
        self.zeros = [h.numpy() for h in contest.zeros]

    def run(self) -> object:
        return self.layer(self.x, *self.zeros)

    def results(self) -> dict[str, torch.Tensor]:
        y, *state_n = [torch.from_numpy(array) for array in self.layer(self.x, *self.hx)]
        return named_results(y, state_n, {})
