"""The least time that a call of a layer can take on this machine, and with it the limit of every comparison.

A roofline (Williams, Waterman and Patterson 2009, doi 10.1145/1498765.1498785), every part of it measured in
the same run: the products of a call as fast as registers alone do them (by tiles, where the machine has
them) and its gates as fast as they go alone or, where that takes longer, the weights read, the recurrent ones
at every step; and the call of a layer that does nothing. Inputs, outputs and what is kept for the backward
pass are taken to cost nothing, and whatever does not fit side by side to overlap, so nobody gets quite there.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, State
from benchmarks.timing import Contestant, in_turns
from penstock import _native

PASSES = {"forward": 1, "training": 3}
"""The products of a call in those of a forward pass: training has as many again for the gradients of what
went in, and for those of the weights."""
SECONDS = 0.01
"""To spend on each measurement."""


def share_of_peak(contest: Contest, mode: str, peak: float) -> float:
    """The part of the multiply-add peak (GFLOP/s, one thread) that a layer could reach beside its gates."""
    return flops(contest, mode) / (peak * least_ms(contest, mode, 1) * 1e6)


def over_one_thread(contest: Contest, mode: str, one_ms: float) -> float:
    """How many times as fast two threads can be as one that takes `one_ms`: no more than in multiply-adds,
    and not in the call of the layer itself."""
    idle = min(_idle_ms(contest, mode), one_ms)
    return one_ms / (idle + (one_ms - idle) / _side_by_side())


def least_ms(contest: Contest, mode: str, threads: int) -> float:
    """Milliseconds under which no call of the layer comes. mode: "forward" or "training"."""
    return work_ms(contest, mode) / threads + _idle_ms(contest, mode)


def work_ms(contest: Contest, mode: str) -> float:
    """Milliseconds of one thread for products and gates, or for the weights where those take longer."""
    products = flops(contest, mode) / _native.measure_products(SECONDS)
    return max(products + _gates_ns(contest, mode), _weights_ns(contest, mode)) * 1e-6


def flops(contest: Contest, mode: str) -> float:
    """Floating point operations of the products. Into a state that is given no gradient flows back."""
    kind, shape = contest.kind, contest.shape
    passes = PASSES[mode] * shape.flops(kind, contest.pairs)
    recurrent = 2 * shape.B * shape.L * shape.directions * kind.gates * shape.H * shape.output
    return passes - recurrent if mode == "training" else passes


def _gates_ns(contest: Contest, mode: str) -> float:
    """What the cell computes of every unit beside its products."""
    kind, shape = contest.kind, contest.shape
    cell = f"{kind.cell}_peephole" if kind.options.get("peephole") else kind.cell
    units = contest.pairs * shape.L * shape.directions * shape.H
    passes = [False] if mode == "forward" else [False, True]
    return sum(units / _gates_speed(cell, backwards) for backwards in passes)


def _weights_ns(contest: Contest, mode: str) -> float:
    """All weights read once, the recurrent ones at every step. In training they are read again, but for the
    recurrent ones of the first step, and as many gradients written, which takes no less than reading."""
    kind, shape = contest.kind, contest.shape
    inputs, recurrent = (4 * kind.gates * shape.H * size for size in (shape.D, shape.output))
    steps = contest.pairs / shape.B if shape.new_length else shape.T
    traffic = inputs + steps * recurrent
    if mode == "training":
        traffic += inputs + (steps - 1) * recurrent + inputs + recurrent
    # In a single step each matrix waits for the other; over many the recurrent one is read again at once.
    speed = _reading_speed(recurrent + inputs if shape.T == 1 else recurrent)
    return shape.L * shape.directions * traffic / speed


def _side_by_side() -> float:
    """How many times as many multiply-adds two threads do as one: two cores may be parts of one."""
    alone = _native.measure_peak(SECONDS)
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(_native.measure_peak, (SECONDS, SECONDS))) / alone


@cache
def _gates_speed(cell: str, backwards: bool) -> float:
    """Units a nanosecond of one thread."""
    return _native.measure_gates(cell, backwards, SECONDS)


@cache
def _reading_speed(size: int) -> float:
    """GB/s of one thread that reads so many bytes again and again."""
    return _native.measure_reading(size, SECONDS)


def _idle_ms(contest: Contest, mode: str) -> float:
    layer = _Idle(contest.ours)
    run: Run = getattr(contest, mode)(_call_idle, layer)
    (timing,) = in_turns([Contestant("idle", 1, run)], SECONDS)
    return timing.ms


def _call_idle(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    y, *state_n = layer(x, *hx)
    return y, tuple(state_n)


class _Idle(torch.nn.Module):
    """A layer with the parameters and outputs of another that leaves its outputs and gradients unwritten."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        for name, weight in layer.named_parameters():
            self.register_parameter(name, weight)
        self.flat = list(layer.parameters())
        self.width = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)

    def forward(self, x: Tensor, *hx: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            return _nothing(self.width, x, *hx, *self.flat)
        return _unwritten(self.width, x, hx)


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, width: int, x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *others)
        return _unwritten(width, x, ())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        given = zip(ctx.saved_tensors, wanted, strict=True)
        return None, *(torch.empty_like(t) if need else None for t, need in given)


_nothing: Callable[..., Any] = super(torch.autograd.Function, _Nothing).apply  # type: ignore[misc]
"""Without what `Function.apply` does besides, as our own layers are called."""


def _unwritten(width: int, x: Tensor, hx: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (x.new_empty(*x.shape[:2], width), *(torch.empty_like(h) for h in hx))
