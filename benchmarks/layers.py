"""Our recurrent layers beside torch.nn's: `python -m benchmarks.layers`.

For every cell and shape the results are checked first, against float64: outputs may be off by twice,
gradients by three times what torch loses in float32 (`tests.reference.inaccuracies`). A line that fails
prints FAIL and no time, and the exit code is 1. Then forward (no_grad) and training (forward and backward,
with the gradients of the input and of every weight) are timed in turns with torch.nn in one process, and the
medians reported. torch.nn has no peepholes and no reset before the product: there the exact results come from
`penstock.cells`, and the time beside ours is that of the nearest layer torch has.
"""

import argparse
import copy
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import penstock
import penstock.nn
from penstock.cells import CELLS, Weights, unroll
from penstock.files import atomic_write
from tests.reference import inaccuracies


@dataclass(frozen=True)
class Kind:
    """One of our cells and the torch.nn class beside it."""

    layer: str
    cell: str
    options: dict[str, bool] = field(default_factory=dict)

    @property
    def peer(self) -> str:
        """What the time of torch.nn in this line is the time of."""
        return f"torch.nn.{self.layer}" + (" (stock cell, nearest)" if self.options else "")


KINDS = {
    "rnn": Kind("RNN", "rnn_tanh"),
    "lstm": Kind("LSTM", "lstm"),
    "gru": Kind("GRU", "gru"),
    "lstm-peephole": Kind("LSTM", "lstm", {"peephole": True}),
    "gru-reset-before": Kind("GRU", "gru_reset_before", {"reset_after": False}),
}


@dataclass(frozen=True)
class Shape:
    """A batch and a stack of layers: B rows, T steps, D inputs, H hidden units, L layers."""

    B: int
    T: int
    D: int
    H: int
    L: int = 1
    bidirectional: bool = False
    ragged: bool = False
    """Lengths uniform between T/4 and T, for torch a PackedSequence."""
    strided: bool = False
    """The input is a (B, D, T) tensor seen as (T, B, D), as a spectrogram is."""

    def __str__(self) -> str:
        notes = [f"{self.L} layers"] * (self.L > 1) + ["two directions"] * self.bidirectional
        notes += ["ragged"] * self.ragged + ["strided"] * self.strided
        return ", ".join([f"B {self.B} T {self.T} D {self.D} H {self.H}", *notes])


SHORT = [
    Shape(1, 1, 64, 64),
    Shape(1, 100, 64, 64),
    Shape(8, 1, 4, 256),
    Shape(32, 100, 128, 128),
    Shape(32, 100, 128, 128, ragged=True),
    Shape(32, 500, 32, 32),
]
FULL = [
    Shape(1, 1, 64, 64),
    Shape(1, 1, 256, 256),
    Shape(1, 100, 64, 64),
    Shape(1, 100, 256, 256),
    Shape(32, 500, 32, 32),
    Shape(32, 100, 128, 128),
    Shape(64, 100, 256, 256),
    Shape(64, 50, 512, 512),
    Shape(128, 35, 650, 650),
    Shape(16, 200, 1024, 1024),
    Shape(8, 1, 4, 256),
    Shape(4096, 1, 16, 32),
    Shape(1024, 97, 1, 128),
    Shape(32, 293, 60, 128, strided=True),
    Shape(32, 100, 128, 128, ragged=True),
    Shape(64, 100, 256, 256, ragged=True),
    Shape(32, 100, 128, 128, L=2, bidirectional=True),
    Shape(32, 100, 128, 128, L=2, bidirectional=True, ragged=True),
]
GRIDS = {"short": SHORT, "full": FULL}

State = tuple[Tensor, ...]
Call = Callable[[Any, Tensor, State, Tensor | None], tuple[Tensor, State]]
"""(layer, x (T, B, D), hx, lengths or None) to (y, final state), each state (L * directions, B, size)."""


def call_ours(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    y, state_n = layer(x, _as_torch(hx), lengths=lengths)
    return y, _as_tuple(state_n)


def call_torch(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    if lengths is None:
        y, state_n = layer(x, _as_torch(hx))
        return y, _as_tuple(state_n)
    packed, state_n = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), _as_torch(hx))
    return pad_packed_sequence(packed, total_length=len(x))[0], _as_tuple(state_n)


def call_plain(cell: str, layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """The cell's plain step in a loop, with the parameters of one of our layers."""
    directions = ["", "_reverse"] if layer.bidirectional else [""]
    finals = []
    for l in range(layer.num_layers):
        outputs = []
        for suffix in directions:
            state = tuple(h[len(finals)] for h in hx)
            named = {name: getattr(layer, f"{name}_l{l}{suffix}", None) for name in Weights._fields}
            weights = Weights(**named)  # pyright: ignore[reportArgumentType]
            y, state_n, _ = unroll(CELLS[cell], x, state, weights, lengths, reverse=bool(suffix))
            outputs.append(y)
            finals.append(state_n)
        x = torch.cat(outputs, dim=-1)
    return x, tuple(torch.stack(states) for states in zip(*finals, strict=True))


def _as_torch(hx: State) -> Tensor | State:
    (h, *others) = hx
    return hx if others else h


def _as_tuple(state: Tensor | State) -> State:
    return state if isinstance(state, tuple) else (state,)


class Contest:
    """One cell and shape: our layer, torch's, and everything random that goes through them."""

    def __init__(self, kind: Kind, shape: Shape) -> None:
        torch.manual_seed(0)
        T, B, D, H = shape.T, shape.B, shape.D, shape.H
        sizes: dict[str, Any] = {"num_layers": shape.L, "bidirectional": shape.bidirectional}
        self.kind = kind
        self.ours: Any = getattr(penstock.nn, kind.layer)(D, H, **sizes, **kind.options)
        self.theirs: Any = getattr(torch.nn, kind.layer)(D, H, **sizes)
        if not kind.options:
            self.theirs.load_state_dict(self.ours.state_dict())
        self.x = torch.randn(B, D, T).permute(2, 0, 1) if shape.strided else torch.randn(T, B, D)
        self.lengths = torch.randint(max(1, T // 4), T + 1, (B,)) if shape.ragged else None

        directions = 2 if shape.bidirectional else 1
        states = len(CELLS[kind.cell].state)
        self.hx = tuple(torch.randn(shape.L * directions, B, H) for _ in range(states))
        self.grad_y = torch.randn(T, B, directions * H)
        self.grad_state = tuple(torch.randn_like(h) for h in self.hx)
        if kind.options:
            plain, layer = lambda *inputs: call_plain(kind.cell, *inputs), self.ours
        else:
            plain, layer = call_torch, self.theirs
        self.exact = self.results(plain, copy.deepcopy(layer).double(), torch.float64)
        self.plain_float32 = self.results(plain, layer, torch.float32)

    def results(self, call: Call, layer: Any, dtype: torch.dtype) -> dict[str, Tensor]:
        """Outputs and all gradients by name, from a random initial state."""
        x = self.x.detach().to(dtype).requires_grad_()
        hx = tuple(h.detach().to(dtype).requires_grad_() for h in self.hx)
        y, state_n = call(layer, x, hx, self.lengths)
        inputs = {"x": x} | {f"state {k}": h for k, h in enumerate(hx)} | dict(layer.named_parameters())
        grads = [g.to(dtype) for g in (self.grad_y, *self.grad_state)]
        gradients = torch.autograd.grad([y, *state_n], list(inputs.values()), grads)
        outputs = {"y": y.detach()} | {f"state {k}": h.detach() for k, h in enumerate(state_n)}
        return outputs | {f"grad {name}": g for name, g in zip(inputs, gradients, strict=True)}

    def inaccuracies(self) -> dict[str, str]:
        """Which results of ours are further from float64 than they may be, with both errors."""
        return inaccuracies(self.results(call_ours, self.ours, torch.float32), self.plain_float32, self.exact)

    def forward(self, call: Call, layer: Any) -> Callable[[], object]:
        zeros = tuple(torch.zeros_like(h) for h in self.hx)

        @torch.no_grad()
        def run() -> object:
            return call(layer, self.x, zeros, self.lengths)

        return run

    def training(self, call: Call, layer: Any) -> Callable[[], object]:
        zeros = tuple(torch.zeros_like(h) for h in self.hx)
        x = self.x.detach().requires_grad_()
        inputs = [x, *layer.parameters()]

        def run() -> object:
            y, _ = call(layer, x, zeros, self.lengths)
            return torch.autograd.grad(y, inputs, self.grad_y)

        return run


@dataclass
class Timing:
    """Medians in milliseconds of calls in turns."""

    ours: float
    torch: float
    repeats: int

    @property
    def ratio(self) -> float:
        return self.torch / self.ours


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], seconds: float) -> Timing:
    """Call both in turns for about `seconds`, five times at least, after one call of each to warm up."""
    ours()
    theirs()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for run, taken in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    median_ours, median_theirs = (statistics.median(taken) * 1e3 for taken in times)
    return Timing(median_ours, median_theirs, len(times[0]))


@dataclass
class Line:
    """One line of the report: times, or what failed."""

    cell: str
    peer: str
    shape: Shape
    threads: int
    failures: dict[str, str]
    forward: Timing | None = None
    training: Timing | None = None


def measure(name: str, shape: Shape, threads: Sequence[int], seconds: float) -> list[Line]:
    """The lines of one cell and shape, one for each number of threads."""
    torch.set_num_threads(max(threads))
    contest, kind, lines = Contest(KINDS[name], shape), KINDS[name], []
    for n in threads:
        torch.set_num_threads(n)
        line = Line(name, kind.peer, shape, n, contest.inaccuracies())
        if not line.failures:
            ours, theirs = (call_ours, contest.ours), (call_torch, contest.theirs)
            line.forward = in_turns(contest.forward(*ours), contest.forward(*theirs), seconds)
            line.training = in_turns(contest.training(*ours), contest.training(*theirs), seconds)
        lines.append(line)
    return lines


def table(lines: Sequence[Line]) -> Table:
    """Milliseconds of ours and torch's, and how many times as fast ours is."""
    result = Table(title="Medians in ms; x: how many times as fast as torch.nn", title_justify="left")
    result.add_column("cell")
    result.add_column("shape")
    for column in ("threads", "forward", "torch", "x", "training", "torch", "x"):
        result.add_column(column, justify="right")
    for line in lines:
        start = (line.cell, str(line.shape), str(line.threads))
        if line.forward is None or line.training is None:
            result.add_row(*start, "[red]FAIL", *[""] * 5)
        else:
            result.add_row(*start, *_cells(line.forward), *_cells(line.training))
    return result


def _cells(timing: Timing) -> tuple[str, str, str]:
    return f"{timing.ours:.3f}", f"{timing.torch:.3f}", f"{timing.ratio:.2f}"


def means(lines: Sequence[Line]) -> Table:
    """Geometric means over the shapes, for each cell and number of threads."""
    result = Table(title="Geometric means over the shapes", title_justify="left")
    for column in ("cell", "beside", "threads"):
        result.add_column(column)
    for column in ("forward x", "training x", "shapes"):
        result.add_column(column, justify="right")
    for cell, peer, threads in dict.fromkeys((line.cell, line.peer, line.threads) for line in lines):
        group = [line for line in lines if (line.cell, line.threads) == (cell, threads)]
        forward = [line.forward.ratio for line in group if line.forward]
        training = [line.training.ratio for line in group if line.training]
        if forward and training:
            mean = (f"{statistics.geometric_mean(ratios):.2f}" for ratios in (forward, training))
            result.add_row(cell, peer, str(threads), *mean, str(len(forward)))
    return result


def provenance() -> dict[str, Any]:
    """The machine, the versions and the commit a result belongs to."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "penstock": penstock.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _git(*arguments: str) -> str | None:
    """What git prints in this folder; None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _save(path: str, grid: str, facts: dict[str, Any], lines: Sequence[Line]) -> None:
    with atomic_write(path) as file:
        json.dump({**facts, "grid": grid, "lines": [asdict(line) for line in lines]}, file, indent=1)


def _threads(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 such as 1,2, got {text!r}")
    return [int(part) for part in parts]


def _kinds(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(KINDS)}, got {name!r}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers", description="The time of our recurrent layers beside torch.nn's."
    )
    parser.add_argument("--grid", choices=GRIDS, default="short", help="which shapes (default: short)")
    parser.add_argument(
        "--threads",
        type=_threads,
        default=sorted({1, os.cpu_count() or 1}),
        help="such as 1,2 (default: 1 and all)",
    )
    parser.add_argument(
        "--cells", type=_kinds, default=list(KINDS), help=f"some of {','.join(KINDS)} (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=0.3, help="to spend on each time (default: 0.3)")
    parser.add_argument("--json", metavar="FILE", help="where to write the results, after every shape")
    args = parser.parse_args(argv)

    console = Console()
    facts, lines = provenance(), []
    console.print(f"{facts['cpu']}, {facts['cores']} cores, torch {facts['torch']}, commit {facts['commit']}")
    for name in args.cells:
        for shape in GRIDS[args.grid]:
            for line in measure(name, shape, args.threads, args.seconds):
                lines.append(line)
                console.print(_summary(line), highlight=False)
            if args.json:
                _save(args.json, args.grid, facts, lines)
    console.print(table(lines), means(lines))
    return 1 if any(line.failures for line in lines) else 0


def _summary(line: Line) -> str:
    start = f"{line.cell}, {line.shape}, threads {line.threads}:"
    if line.forward is None or line.training is None:
        return f"{start} [red]FAIL[/red] relative errors " + "; ".join(
            f"{k} {v}" for k, v in line.failures.items()
        )
    return f"{start} forward {line.forward.ratio:.2f}x, training {line.training.ratio:.2f}x"


if __name__ == "__main__":
    sys.exit(main())
