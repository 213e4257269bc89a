"""A whole training step of a tagger: embedding, LSTM of two layers and two directions, linear, loss, Adam.

The batches are ragged and each has other lengths, as sentences have; ours takes the lengths, torch's
LSTM a PackedSequence. Both models start from the same weights and see the same batches in the same order.
"""

import copy
import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import penstock.nn
from benchmarks import gate
from benchmarks.checks import Case, Settings
from benchmarks.contest import Run
from benchmarks.figures import Line
from benchmarks.timing import Contestant, in_turns

FIGURES = ("tagger",)
WORDS, TAGS = 10_000, 20
SHORT = ((32, 60, 100, 128),)
FULL = ((32, 60, 100, 128), (64, 100, 100, 256))
"""(B, T, D, H)."""
BATCHES = 16
PADDING = -100
"""The tag that cross_entropy leaves out."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Words and tags (T, B), lengths (B,)."""


class Tagger(nn.Module):
    """Scores of the tags, (T, B, TAGS), of words (T, B)."""

    def __init__(self, D: int, H: int, ours: bool) -> None:
        super().__init__()
        self.ours = ours
        lstm: Any = penstock.nn.LSTM if ours else nn.LSTM
        self.embedding = nn.Embedding(WORDS, D)
        self.lstm = lstm(D, H, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * H, TAGS)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(words)
        if self.ours:
            y, _ = self.lstm(x, lengths=lengths)
        else:
            packed, _ = self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
            y, _ = pad_packed_sequence(packed, total_length=len(x))
        return self.linear(y)

    def loss(self, batch: Batch) -> Tensor:
        words, tags, lengths = batch
        return cross_entropy(self(words, lengths).flatten(0, 1), tags.flatten(), ignore_index=PADDING)


def unavailable() -> dict[str, str]:
    return {}


def cases(settings: Settings) -> Iterable[Case]:
    if "torch" not in settings.peers or "lstm" not in {kind.name for kind in settings.kinds}:
        return
    for sizes in FULL if settings.is_full else SHORT:
        yield Case(f"tagger {sizes}", partial(measure, sizes, settings.threads, settings.seconds))


def measure(sizes: tuple[int, int, int, int], threads: Iterable[int], seconds: float) -> list[Line]:
    torch.manual_seed(0)
    B, T, D, H = sizes
    batches = [_batch(B, T) for _ in range(BATCHES)]
    ours, theirs = _pair(D, H)
    failures = {}
    for n in threads:
        torch.set_num_threads(n)
        failures[n] = gate.failures(partial(_errors, sizes), torch.float32)
    # Training changes the weights: each contestant has a copy of its own.
    contestants = [
        Contestant(name, n, _training(copy.deepcopy(model), batches))
        for n in threads
        if not failures[n]
        for name, model in (("ours", ours), ("torch", theirs))
    ]
    timings = in_turns(contestants, seconds, one_by_one=True)
    times = {(c.name, c.threads): t for c, t in zip(contestants, timings, strict=True)}
    lines = []
    for n in threads:
        line = Line("tagger", "lstm", f"{B}×{T}×{D}×{H} L2 bi ragged", n, failures=failures[n])
        if not line.failures:
            line.times = {name: times[name, n].ms for name in ("ours", "torch")}
            line.repeats = min(times[name, n].repeats for name in ("ours", "torch"))
            line.value = times["torch", n].over(times["ours", n])
        lines.append(line)
    return lines


def _batch(B: int, T: int) -> Batch:
    lengths = torch.randint(T // 4, T + 1, (B,))
    words, tags = torch.randint(WORDS, (T, B)), torch.randint(TAGS, (T, B))
    return words, tags.masked_fill(torch.arange(T)[:, None] >= lengths, PADDING), lengths


def _pair(D: int, H: int) -> tuple[Tagger, Tagger]:
    ours, theirs = Tagger(D, H, ours=True), Tagger(D, H, ours=False)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def _errors(sizes: tuple[int, int, int, int], seed: int) -> gate.Errors:
    torch.manual_seed(seed)
    B, T, D, H = sizes
    batch, (ours, theirs) = _batch(B, T), _pair(D, H)
    exact = _results(copy.deepcopy(theirs).double(), batch)
    return gate.errors(_results(ours, batch), _results(theirs, batch), exact)


def _results(model: Tagger, batch: Batch) -> dict[str, Tensor]:
    loss = model.loss(batch)
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {"loss": loss.detach()} | {f"grad {k}": g for k, g in zip(named, gradients, strict=True)}


def _training(model: Tagger, batches: list[Batch]) -> Run:
    optimizer = torch.optim.Adam(model.parameters())
    coming = itertools.cycle(batches)

    def run() -> None:
        optimizer.zero_grad()
        model.loss(next(coming)).backward()
        optimizer.step()

    return run
