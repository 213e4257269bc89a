"""Our layer beside its peers over the grid, forward and training, and what follows from these times.

All contestants of a case, on every number of threads, are timed in turns in one process. From the times come
the comparisons with the peers, one step through the Python layer, two threads over one, and the share of the
multiply-add peak.
"""

import statistics
from collections.abc import Iterable, Sequence
from functools import partial

import torch

from benchmarks import contest as contests
from benchmarks import peers, roofline
from benchmarks.checks import Case, Settings
from benchmarks.contest import Contest, Run
from benchmarks.figures import Line
from benchmarks.gate import Gate, peer_failures
from benchmarks.grid import Kind, Shape
from benchmarks.timing import Contestant, Timing, in_turns, timed
from penstock import _native

FORWARD = ("inference", "step", "threads", "peak-forward")
"""The figures that a forward pass is timed for."""
TRAINING = ("training-lstm", "training-gru-rnn", "training-ragged", "threads", "peak-training")
FIGURES = tuple(dict.fromkeys(FORWARD + TRAINING))
PEAK_SHAPES = ((64, 256), (64, 512))
"""(B, H) in which the share of the peak is taken."""
PEAK_SECONDS, PEAK_ROUNDS = 0.01, 9
STEP_SECONDS = 0.04

Times = dict[tuple[str, int], Timing]
"""By contestant and number of threads."""


def unavailable() -> dict[str, str]:
    return {}


def cases(settings: Settings) -> Iterable[Case]:
    for kind in settings.kinds:
        for shape in settings.shapes:
            if shape.fits(kind):
                yield Case(f"speed {kind.name} {shape}", partial(measure, settings, kind, shape))


def measure(settings: Settings, kind: Kind, shape: Shape) -> list[Line]:
    """The lines of one cell and shape; lines with failures, and no times, where ours is wrong."""
    gate = Gate(kind, shape)
    failures = {n: gate.failures(n) for n in settings.threads}
    lines = []
    if settings.wants(*FORWARD):
        lines += _forward(settings, gate.contest, failures)
    if settings.wants(*TRAINING):
        lines += _training(settings, gate.contest, failures)
    return [line for line in lines if settings.wants(line.figure)]


def training_figure(kind: Kind, shape: Shape) -> str:
    if shape.ragged:
        return "training-ragged"
    return "training-lstm" if kind.layer == "LSTM" else "training-gru-rnn"


def _forward(settings: Settings, contest: Contest, failures: dict[int, dict[str, str]]) -> list[Line]:
    """Beside every peer of inference that has the cell and shape and computes the same."""
    right = [n for n in settings.threads if not failures[n]]
    contestants = [Contestant("ours", n, contest.forward(contests.call_ours, contest.ours)) for n in right]
    notes = []
    for name in settings.peers:
        if peers.PEERS[name].trains or not right:
            continue
        peer = peers.load(name)
        reason = peer.refuses(contest.kind, contest.shape) or _differs(peer, contest, right)
        if reason:
            notes.append(f"{name} left out: {reason}")
        else:
            contestants += [Contestant(name, n, peer.run(contest, n)) for n in right]
    if "torch" in settings.peers and not contest.kind.is_stock:
        notes.append("torch: its nearest cell")
    times = _times(settings, contest, contestants)
    lines = [_line("inference", "forward", contest, n, times, failures[n], notes) for n in settings.threads]
    lines += _step(contest, failures.get(1, {}))
    lines += _over_one_thread("forward", contest, times)
    run = contest.forward(contests.call_ours, contest.ours)
    return lines + _share_of_peak("forward", contest, run, failures.get(1, {}))


def _differs(peer: peers.Peer, contest: Contest, threads: Sequence[int]) -> str:
    wrong = {n: peer_failures(contest, partial(peer.results, contest, n)) for n in threads}
    return "; ".join(f"{name} off by {e} (threads {n})" for n in wrong for name, e in wrong[n].items())


def _training(settings: Settings, contest: Contest, failures: dict[int, dict[str, str]]) -> list[Line]:
    """Beside torch.nn, the only peer with a layer for it in the same process."""
    right = [n for n in settings.threads if not failures[n]]
    ours, theirs = (contests.call_ours, contest.ours), (contests.call_torch, contest.theirs)
    contestants = [Contestant("ours", n, contest.training(*ours)) for n in right]
    notes = []
    if "torch" in settings.peers:
        contestants += [Contestant("torch", n, contest.training(*theirs)) for n in right]
        notes += [] if contest.kind.is_stock else ["torch: its nearest cell"]
    times = _times(settings, contest, contestants)
    figure = training_figure(contest.kind, contest.shape)
    lines = [_line(figure, "training", contest, n, times, failures[n], notes) for n in settings.threads]
    lines += _over_one_thread("training", contest, times)
    run = contest.training(*ours)
    return lines + _share_of_peak("training", contest, run, failures.get(1, {}))


def _times(settings: Settings, contest: Contest, contestants: Sequence[Contestant]) -> Times:
    timings = in_turns(contestants, settings.seconds, one_by_one=contest.shape.new_length)
    return {(c.name, c.threads): t for c, t in zip(contestants, timings, strict=True)}


def _line(
    figure: str, mode: str, contest: Contest, n: int, times: Times, failures: dict[str, str], notes: list[str]
) -> Line:
    """How many times as fast as the best of the others, on n threads."""
    line = Line(figure, contest.kind.name, str(contest.shape), n, failures=failures, notes=notes)
    own = {name: timing for (name, threads), timing in times.items() if threads == n}
    if not own:
        return line
    line.times = {name: timing.ms for name, timing in own.items()}
    line.repeats = min(timing.repeats for timing in own.values())
    others = [timing for name, timing in own.items() if name != "ours"]
    if others:
        best = min(others, key=lambda timing: timing.ms)
        line.value = best.over(own["ours"])
        line.limit = best.ms / roofline.least_ms(contest, mode, n)
    return line


def _step(contest: Contest, failures: dict[str, str]) -> list[Line]:
    """One step of one row through the Python layer, in us: nothing but the call is timed."""
    shape, layer = contest.shape, contest.ours
    if (shape.B, shape.T, shape.H) != (1, 1, 64) or failures:
        return []
    x, hx = contest.x, contest.zeros[0] if len(contest.zeros) == 1 else contest.zeros
    with torch.no_grad():
        (timing,) = in_turns([Contestant("ours", 1, lambda: layer(x, hx))], STEP_SECONDS)
    line = _own("step", contest, str(shape), 1, timing.ms * 1e3, {"ours": timing})
    line.limit = roofline.least_ms(contest, "forward", 1) * 1e3
    return [line]


def _over_one_thread(mode: str, contest: Contest, times: Times) -> list[Line]:
    one, two = times.get(("ours", 1)), times.get(("ours", 2))
    if contest.shape.B < 32 or one is None or two is None:
        return []
    case = f"{contest.shape} {mode}"
    line = _own("threads", contest, case, 2, one.over(two), {"one": one, "two": two})
    line.limit = roofline.over_one_thread(contest, mode, one.ms)
    return [line]


def _share_of_peak(mode: str, contest: Contest, run: Run, failures: dict[str, str]) -> list[Line]:
    """Layer and peak are measured in turns: a core slows down under such work, and the peak with it."""
    shape = contest.shape
    if failures or not shape.is_plain or (shape.B, shape.H) not in PEAK_SHAPES:
        return []
    torch.set_num_threads(1)
    rounds = [(timed(run), _native.measure_peak(PEAK_SECONDS)) for _ in range(PEAK_ROUNDS)]
    seconds, peak = (statistics.median(values) for values in zip(*rounds, strict=True))
    gflop = roofline.flops(contest, mode) * 1e-9
    share = statistics.median(gflop / (seconds * peak) for seconds, peak in rounds)
    line = Line(f"peak-{mode}", contest.kind.name, str(shape), 1, 100 * share,
                {"ours": seconds * 1e3}, PEAK_ROUNDS)  # fmt: skip
    line.notes = [f"{gflop / seconds:.0f} of {peak:.0f} GFLOP/s"]
    line.limit = 100 * roofline.share_of_peak(contest, mode, peak)
    return [line]


def _own(
    figure: str, contest: Contest, case: str, threads: int, value: float, times: dict[str, Timing]
) -> Line:
    """A line about ours alone."""
    ms = {name: timing.ms for name, timing in times.items()}
    repeats = min(timing.repeats for timing in times.values())
    return Line(figure, contest.kind.name, case, threads, value, ms, repeats)
