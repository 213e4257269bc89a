"""torch.nn, inference: its own layer, or for cells that torch lacks their nearest relative."""

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, call_torch
from benchmarks.grid import Kind, Shape


def refuses(kind: Kind, shape: Shape) -> str | None:
    return None


def run(contest: Contest, threads: int) -> Run:
    return contest.forward(call_torch, contest.theirs)


def results(contest: Contest, threads: int) -> Mapping[str, Tensor]:
    """Nothing for a cell that torch lacks: its relative computes something else."""
    if not contest.kind.is_stock:
        return {}
    torch.set_num_threads(threads)
    return contest.results(call_torch, contest.theirs, torch.float32)
