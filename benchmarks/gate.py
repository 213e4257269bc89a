"""No time without correct results.

Ours is compared with float64: outputs may be off by twice, gradients by three times what plain torch loses
in the same dtype, and by a few roundings at any rate. The largest error of one problem is partly luck: what
fails is tried on four more seeds, and then the medians decide.
"""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch
from torch import Tensor

from benchmarks import contest as contests
from benchmarks import machine
from benchmarks.contest import Contest
from benchmarks.grid import Kind, Shape
from tests.reference import error

SEEDS = 5
PEER_TOLERANCE = 1e-3
"""Relative error of a peer that computes the same thing in float32; bfloat16 by itself is above it."""


Errors = dict[str, tuple[float, float]]
"""By result, the relative errors of ours and of plain torch."""


def errors(ours: Mapping[str, Tensor], plain: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> Errors:
    """Of every result; gradients are named "grad ..."."""
    return {name: (error(ours[name], e), error(plain[name], e)) for name, e in exact.items()}


def failures(errors_of: Callable[[int], Errors], dtype: torch.dtype) -> dict[str, str]:
    """Which results of ours are off by too much, with both errors. `errors_of` takes a seed."""
    trials = [errors_of(0)]
    if _wrong(trials, dtype):
        trials += [errors_of(seed) for seed in range(1, SEEDS)]
    return _wrong(trials, dtype)


def _wrong(trials: list[Errors], dtype: torch.dtype) -> dict[str, str]:
    wrong = {}
    for name in trials[0]:
        ours, theirs = (median(trial[name][side] for trial in trials) for side in (0, 1))
        factor = 3 if name.startswith("grad ") else 2
        if not ours <= max(factor * theirs, 4 * torch.finfo(dtype).eps):
            wrong[name] = f"{ours:.2e} (plain torch {theirs:.2e})"
    return wrong


_judged: dict[tuple[str, Shape, torch.dtype, int], dict[str, str]] = {}


class Gate:
    """The correctness of our layer for one cell and shape. `contest` is that of the first seed."""

    def __init__(self, kind: Kind, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        self.kind, self.shape, self.dtype = kind, shape, dtype
        self.contest = Contest(kind, shape)

    def failures(self, threads: int) -> dict[str, str]:
        """Of ours on so many threads; computed once in a process, whoever asks."""
        key = (self.kind.name, self.shape, self.dtype, threads)
        if key not in _judged:
            _judged[key] = failures(partial(self._errors, threads), self.dtype)
        return _judged[key]

    def _errors(self, threads: int, seed: int) -> Errors:
        contest = Contest(self.kind, self.shape, seed) if seed else self.contest
        torch.set_num_threads(machine.cores())  # the references take longer than anything that is timed
        plain, exact = contest.plain(self.dtype), contest.exact
        torch.set_num_threads(threads)
        return errors(contest.results(contests.call_ours, contest.ours, self.dtype), plain, exact)


def peer_failures(contest: Contest, results: Callable[[], Mapping[str, Tensor]]) -> dict[str, str]:
    """Which results of a peer are not those of the contest: a peer that computes something else."""
    wrong = {}
    for name, got in results().items():
        e = error(got, contest.exact[name])
        if not e <= PEER_TOLERANCE:
            wrong[name] = f"{e:.2e}"
    return wrong
