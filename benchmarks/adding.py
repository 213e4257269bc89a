"""The adding problem over 1,000 steps: can a layer remember two numbers? `python -m benchmarks.adding`.

Every step has a number and a marker, which is 1 at two steps and 0 at all others; the sum of the two marked
numbers is to be said after the last step (Hochreiter & Schmidhuber 1997, experiment 4; with numbers from 0
to 1 and one marker in each half, as Le et al. 2015 and Arjovsky et al. 2016 have it). Who has understood
nothing says 1, and has a mean squared error of 1/6, the variance of the sum. An LSTM and a GRU must come
below 0.01; a plain RNN, whose gradient vanishes long before the first marker, stays at 1/6.

Gates start with memories of all lengths up to the sequence's (chrono initialization, Tallec & Ollivier 2018).
Exit code 1 if an LSTM or a GRU does not come below 0.01.

Dimensions: T steps, B sequences of a batch, H units.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import penstock.nn
from benchmarks import machine
from penstock.files import atomic_write

LAYERS = {"lstm": penstock.nn.LSTM, "gru": penstock.nn.GRU, "rnn": penstock.nn.RNN}
GATED = ("lstm", "gru")
NOTHING_LEARNT = 1 / 6
"""Mean squared error of saying 1 every time."""
TARGET = 0.01
"""Mean squared error that a layer with gates must come below."""
TEST_SEQUENCES = 2000
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Settings:
    """How all layers are trained: fresh sequences in every batch, Adam."""

    steps: int = 1000
    hidden_size: int = 64
    batch: int = 32
    updates: int = 2000
    learning_rate: float = 1e-2
    seed: int = 1


@dataclass(frozen=True)
class Result:
    """What came of one layer.

    Attributes:
        error: mean squared error on `TEST_SEQUENCES` sequences that were not trained on.
        learnt: updates after which the mean error of the last 100 batches was below `TARGET`; None if never.
        seconds: of training and measuring.
    """

    cell: str
    error: float
    learnt: int | None
    seconds: float

    @property
    def passed(self) -> bool:
        return self.cell not in GATED or self.error < TARGET


class Adder(nn.Module):
    """The sum, (B,), from the last output of a recurrent layer."""

    def __init__(self, cell: str, hidden_size: int, steps: int) -> None:
        super().__init__()
        self.recurrent = LAYERS[cell](2, hidden_size)
        self.linear = nn.Linear(hidden_size, 1)
        if cell in GATED:
            remember(self.recurrent, steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.recurrent(x)[0][-1])[:, 0]


@torch.no_grad()
def remember(layer: nn.RNNBase, steps: int) -> None:
    """Start an LSTM or GRU with a memory of 1 to `steps` steps, another in every unit.

    The forget gate (of a GRU the update gate, which keeps the old state) gets the bias log u with u drawn
    evenly from 1 to steps - 1, the LSTM's input gate -log u (Tallec & Ollivier 2018).
    """
    H = layer.hidden_size
    bias = torch.log(torch.empty(H).uniform_(1, steps - 1))
    for name in ("bias_ih_l0", "bias_hh_l0"):
        parameter = layer.get_parameter(name)
        parameter.zero_()
        if name == "bias_ih_l0":
            parameter[H : 2 * H] = bias  # both layers have this gate second
        if name == "bias_ih_l0" and layer.mode == "LSTM":
            parameter[:H] = -bias


def sequences(B: int, T: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (T, B, 2), a number from 0 to 1 and a marker, and the sums (B,); a marker in each half."""
    numbers = torch.rand(T, B, generator=chance)
    half = T // 2
    first = torch.randint(0, half, (1, B), generator=chance)
    second = torch.randint(half, T, (1, B), generator=chance)
    marked = torch.cat([first, second])
    markers = torch.zeros(T, B).scatter_(0, marked, 1.0)
    return torch.stack([numbers, markers], 2), numbers.gather(0, marked).sum(0)


def train(cell: str, settings: Settings, console: Console) -> Result:
    """Train and measure one layer; the sequences are the same for all."""
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    model = Adder(cell, settings.hidden_size, settings.steps)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    chance = torch.Generator().manual_seed(settings.seed)
    errors: list[float] = []
    learnt = None
    for update in range(1, settings.updates + 1):
        x, sums = sequences(settings.batch, settings.steps, chance)
        loss = mse_loss(model(x), sums)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        errors.append(float(loss.detach()))
        if update % 100:
            continue
        recent = sum(errors[-100:]) / 100
        learnt = update if learnt is None and recent < TARGET else learnt
        console.print(f"[dim]{cell:<4} {update:>6,} of {settings.updates:,}[/dim]   error {recent:.4f}")
    error = measure(model, settings)
    return Result(cell, error, learnt, time.perf_counter() - started)


@torch.no_grad()
def measure(model: Adder, settings: Settings) -> float:
    """Mean squared error on sequences of another seed, in batches of the size of training."""
    chance = torch.Generator().manual_seed(settings.seed + 1_000_000)
    batches = [settings.batch] * math.ceil(TEST_SEQUENCES / settings.batch)
    pairs = (sequences(B, settings.steps, chance) for B in batches)
    return sum(float(mse_loss(model(x), sums)) for x, sums in pairs) / len(batches)


def main(argv: Sequence[str] | None = None) -> int:
    args = vars(_parser().parse_args(argv))
    cells, file, threads = args.pop("cells"), args.pop("json"), args.pop("threads")
    settings = Settings(**args)
    torch.set_num_threads(threads)
    facts = machine.provenance([]) | {"threads": threads, "settings": asdict(settings)}
    console = Console(highlight=False)
    console.print(f"{facts['cpu']}, {threads} thread(s), {facts['instructions']}; commit {facts['commit']}")
    results = []
    for cell in cells:
        results.append(train(cell, settings, console))
        if file is not None:
            _write(file, facts, results)
    console.print(_table(results, settings))
    return 0 if all(result.passed for result in results) else 1


def _write(path: Path, facts: dict[str, Any], results: Sequence[Result]) -> None:
    with atomic_write(path) as file:
        json.dump({**facts, "results": [asdict(result) for result in results]}, file, indent=1)


def _table(results: Sequence[Result], settings: Settings) -> Table:
    table = Table(
        title=f"adding problem, {settings.steps:,} steps, {settings.updates:,} updates",
        caption=f"mean squared error of who has learnt nothing: {NOTHING_LEARNT:.4f}",
    )
    for head in ("layer", "mean squared error", "target", "below it after", "seconds", ""):
        table.add_column(head, justify="left" if head in ("layer", "") else "right")
    for result in results:
        gated = result.cell in GATED
        table.add_row(
            result.cell,
            f"{result.error:.4f}",
            f"< {TARGET}" if gated else "",
            f"{result.learnt:,} updates" if result.learnt else "",
            f"{result.seconds:.0f}",
            ("PASS" if result.passed else "short") if gated else "",
        )
    return table


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adding",
        description="The adding problem: an LSTM and a GRU remember over 1,000 steps, a plain RNN does not.",
    )
    parser.add_argument("--cells", type=_cells, default=list(LAYERS), help="default: lstm,gru,rnn")
    sizes = {
        "steps": "of a sequence",
        "hidden-size": "units",
        "batch": "sequences in a batch",
        "updates": "batches to train on",
        "seed": "of weights and sequences",
    }
    for name, text in sizes.items():
        default = getattr(defaults, name.replace("-", "_"))
        least = {"steps": 4, "seed": 0}.get(name, 1)
        help = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", type=_whole(least), default=default, metavar="N", help=help)
    rate = defaults.learning_rate
    parser.add_argument("--learning-rate", type=float, default=rate, metavar="X", help=f"default: {rate}")
    parser.add_argument("--threads", type=_whole(1), default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="where to write the results, layer by layer"
    )
    return parser


def _cells(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in LAYERS:
            raise argparse.ArgumentTypeError(f"expected some of {','.join(LAYERS)}, got {name!r}")
    return list(dict.fromkeys(names))


def _whole(least: int):
    """Reads a whole number of at least `least`."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return read


if __name__ == "__main__":
    sys.exit(main())
