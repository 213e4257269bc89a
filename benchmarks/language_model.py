"""Tokens a second in training a language model, ours beside torch.nn: `python -m benchmarks.language_model`.

The model is that of `penstock train lm` with the options of a configuration; the same one on torch.nn has
torch's layers in the place of ours, and all else alike: embedding, dropout, loss, clipping, optimizer. Both
start from the same weights and read the same windows of a text, with states carried from one to the next.
First their losses and gradients without dropout are compared with float64; no speed without that.

Dimensions: B streams, T steps of a window.
"""

import argparse
import copy
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks import gate, machine
from benchmarks.timing import Contestant, in_turns
from penstock.data.lines import read_text
from penstock.files import atomic_write
from penstock.tasks.lm.config import Config
from penstock.tasks.lm.model import LanguageModel
from penstock.training.job import Batch

TORCH = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    config = Config(data=[args.file], output=Path("unused"), **yaml.safe_load(args.config.read_text("utf-8")))
    characters, ids = _encoded(args.file)
    facts = machine.provenance([]) | {"config": args.config.name, "threads": args.threads}
    console = Console(highlight=False)
    console.print(
        f"{facts['cpu']}, {facts['instructions']}; torch {facts['torch']}; commit {facts['commit']}"
    )
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        failed = gate.failures(partial(_errors, config, characters, ids), torch.float32)
        if failed:
            console.print(f"FAIL on {threads} threads: {failed}")
            return 1
        rows.append(_measure(config, characters, ids, threads, args.seconds))
    console.print(_table(rows, config))
    if args.json:
        with atomic_write(args.json) as file:
            json.dump({**facts, "results": rows}, file, indent=1)
    return 0


def _measure(config: Config, characters: int, ids: Tensor, threads: int, seconds: float) -> dict[str, float]:
    ours = _model(config, characters)
    contestants = [
        Contestant(name, threads, _training(config, model, ids))
        for name, model in (("ours", ours), ("torch", _on_torch(ours)))
    ]
    times = {c.name: t.ms for c, t in zip(contestants, in_turns(contestants, seconds, True), strict=True)}
    tokens = config.batch_rows * config.window
    speeds = {name: tokens / ms * 1e3 for name, ms in times.items()}
    return {"threads": threads, **speeds, "ratio": speeds["ours"] / speeds["torch"]}


def _model(config: Config, characters: int) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(config, tokens=characters)


def _on_torch(model: LanguageModel) -> LanguageModel:
    """A copy whose recurrent layers are torch.nn's, with the same weights."""
    twin = copy.deepcopy(model)
    for name, layer in model.named_children():
        if not isinstance(layer, nn.RNNBase):
            continue
        plain = TORCH[model.config.cell](layer.input_size, layer.hidden_size, batch_first=layer.batch_first)
        plain.load_state_dict(layer.state_dict())
        setattr(twin, name, plain)
    return twin


def _training(config: Config, model: LanguageModel, ids: Tensor):
    """One update a call, by AdamW, whatever optimizer the configuration names."""
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, fused=True)
    coming = _windows(config, ids)

    def run() -> None:
        batch = next(coming)
        optimizer.zero_grad()
        model.loss(model(batch), batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()

    return run


def _windows(config: Config, ids: Tensor) -> Iterator[Batch]:
    """The windows of parallel streams, again and again."""
    B, T = config.batch_rows, config.window
    steps = (len(ids) - 1) // B
    inputs, targets = (part[: B * steps].view(B, steps) for part in (ids[:-1], ids[1:]))
    begins, all_of_it = torch.zeros(B, dtype=torch.bool), torch.full((B,), T)
    for first in itertools.cycle(range(0, steps - T + 1, T)):
        window = slice(first, first + T)
        parts = {"inputs": inputs[:, window], "targets": targets[:, window]}
        yield parts | {"begins": begins, "lengths": all_of_it}


def _errors(config: Config, characters: int, ids: Tensor, seed: int) -> gate.Errors:
    ours = _model(config, characters).eval()
    batch = next(itertools.islice(_windows(config, ids), seed, None))
    theirs = _on_torch(ours)
    exact = _results(copy.deepcopy(theirs).double(), batch)
    return gate.errors(_results(ours, batch), _results(theirs, batch), exact)


def _results(model: LanguageModel, batch: Batch) -> dict[str, Tensor]:
    loss = model.loss(model(batch), batch)
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {"loss": loss.detach()} | {f"grad {k}": g for k, g in zip(named, gradients, strict=True)}


def _encoded(file: Path) -> tuple[int, Tensor]:
    """How many different characters there are, and the text as their numbers."""
    text = "".join(read_text(file))
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    return len(numbers), torch.tensor([numbers[character] for character in text])


def _table(rows: list[dict[str, float]], config: Config) -> Table:
    sizes = (
        f"{config.layers} x {config.cell} {config.hidden_size}, {config.batch_rows} x {config.window} tokens"
    )
    table = Table(title=f"training a language model, {sizes}: tokens a second")
    for head in ("threads", "ours", "torch.nn", "times as fast"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(
            str(row["threads"]), f"{row['ours']:,.0f}", f"{row['torch']:,.0f}", f"{row['ratio']:.2f}x"
        )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language_model",
        description="Tokens a second in training a language model of characters, ours beside torch.nn.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="text in UTF-8")
    config = Path("configs/tiny_shakespeare.yaml")
    parser.add_argument("--config", type=Path, default=config, metavar="FILE", help=f"default: {config}")
    parser.add_argument(
        "--threads", type=_counts, default=[1, machine.cores()], metavar="N,...", help="default: 1 and all"
    )
    parser.add_argument("--seconds", type=float, default=20.0, metavar="X", help="for each; default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    return parser


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
