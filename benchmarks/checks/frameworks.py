"""Training beside the frameworks that want a process of their own: Keras on TensorFlow and JAX.

One process for each number of threads and each cell, in the short grid for the largest number and all cells,
bound to so many cores; ours is checked and timed in it, in turns with the framework.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks import child, peers
from benchmarks import contest as contests
from benchmarks.checks import Case, Settings
from benchmarks.figures import Line
from benchmarks.gate import Gate, peer_failures
from benchmarks.grid import KINDS, Kind, Shape
from benchmarks.timing import Contestant, in_turns

FIGURES = ("training-keras", "training-jax")
SHORT = (Shape(32, 100, 128, 128),)
"""The shape of the short grid."""
LARGEST = 20e9
"""Operations of an LSTM's forward pass; larger shapes would take these frameworks most of the hour."""


def unavailable() -> dict[str, str]:
    names = {figure: figure.removeprefix("training-") for figure in FIGURES}
    missing = {figure: peers.missing(name) for figure, name in names.items()}
    return {f: f"{' and '.join(modules)} not installed" for f, modules in missing.items() if modules}


def cases(settings: Settings) -> Iterable[Case]:
    shapes = [shape for shape in (settings.shapes if settings.is_full else SHORT) if _is_fit(shape)]
    # Starting TensorFlow takes longer than a short measurement: one process then has all cells.
    groups = [[kind.name] for kind in settings.kinds]
    groups = groups if settings.is_full else [[kind.name for kind in settings.kinds]]
    threads = settings.threads if settings.is_full else settings.threads[-1:]
    for name in settings.peers:
        if not peers.PEERS[name].trains or not settings.wants(f"training-{name}"):
            continue
        for kinds in groups:
            for n in threads:
                arguments = {
                    "name": name,
                    "kinds": kinds,
                    "shapes": [asdict(shape) for shape in shapes],
                    "threads": n,
                    "seconds": settings.seconds,
                }
                yield Case(f"{name} {' '.join(kinds)} {n}", partial(measure, arguments))


def _is_fit(shape: Shape) -> bool:
    return shape.is_plain and shape.flops(KINDS["lstm"]) <= LARGEST


def measure(arguments: Mapping[str, Any]) -> list[Line]:
    lines = child.run("benchmarks.checks.frameworks:measure_here", arguments, arguments["threads"])
    return [Line(**line) for line in lines]


def measure_here(
    name: str, kinds: list[str], shapes: list[Mapping[str, Any]], threads: int, seconds: float
) -> list[dict[str, Any]]:
    """The lines of some cells on one number of threads, as dictionaries; for `benchmarks.child`."""
    peer = peers.load(name)  # first, before torch has started threads
    pairs = [(KINDS[kind], Shape(**shape)) for kind in kinds for shape in shapes]
    right = [(kind, shape) for kind, shape in pairs if not peer.refuses(kind, shape)]
    return [asdict(_line(name, peer, kind, shape, threads, seconds)) for kind, shape in right]


def _line(name: str, peer: peers.Peer, kind: Kind, shape: Shape, threads: int, seconds: float) -> Line:
    gate = Gate(kind, shape)
    contest = gate.contest
    line = Line(f"training-{name}", kind.name, str(shape), threads, failures=gate.failures(threads))
    wrong = peer_failures(contest, partial(peer.results, contest, threads))
    line.notes = [f"{name} left out: {result} off by {e}" for result, e in wrong.items()]
    if line.failures or wrong:
        return line
    run = contest.training(contests.call_ours, contest.ours)
    contestants = [Contestant("ours", threads, run), Contestant(name, threads, peer.run(contest, threads))]
    timings = in_turns(contestants, seconds)
    line.times = {c.name: t.ms for c, t in zip(contestants, timings, strict=True)}
    line.repeats = min(t.repeats for t in timings)
    ours, theirs = timings
    line.value = theirs.over(ours)
    return line
