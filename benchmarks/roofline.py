"""The least time that a call of a layer can take on this machine, and with it the limit of every comparison.

A roofline (Williams, Waterman and Patterson 2009, doi 10.1145/1498765.1498785), every part of it measured in
the same run: the products of a call alone, at the sizes that the layer has them in and by the faster of our
kernels and torch's, and its gates as fast as they go alone; or, where that takes longer, the weights read,
the recurrent ones at every step, or the sequences and states read and written; and the call of a layer that
does nothing, after as much memory has gone by as the layer reads and writes: what surrounds the kernels has
left the caches then, and takes several times as long to come back as to run. Packing, splitting, sums of
biases and what is kept for the backward pass are taken to cost nothing, every operand to lie as near as it
can, and whatever does not fit side by side to overlap: nobody gets quite there.
"""

import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, State
from benchmarks.timing import after
from penstock import _native

PASSES = {"forward": 1, "training": 3}
"""The products of a call in those of a forward pass: training has as many again for the gradients of what
went in, and for those of the weights."""
SECONDS = 0.01
"""To spend on each measurement."""
LONG = 0.05
"""To spend on calls: what else the machine does may last longer than a measurement."""
ONCE = 1e-9
"""To read something once and no more, or little more."""
NEAR = 1 << 18
"""Bytes that a core's own caches hold beside the code of a call."""
AT_ONCE = 256
"""Rows of a product that takes those of many steps: more are no faster."""


class Product(NamedTuple):
    """A product of a forward pass: (rows, depth) * (depth, columns), as often as there are pairs."""

    rows: int
    depth: int
    columns: int
    is_recurrent: bool


def share_of_peak(contest: Contest, mode: str, peak: float) -> float:
    """The part of the multiply-add peak (GFLOP/s, one thread) that a layer could reach beside its gates."""
    return flops(contest, mode) / (peak * least_ms(contest, mode, 1) * 1e6)


def over_one_thread(contest: Contest, mode: str, one_ms: float) -> float:
    """How many times as fast two threads can be as one that takes `one_ms`: no more than in multiply-adds,
    and not in the call of the layer itself."""
    idle = min(_idle_ms(contest, mode), one_ms)
    return one_ms / (idle + (one_ms - idle) / _side_by_side())


def over_short(contest: Contest, mode: str, short: Contest, short_ms: float) -> float:
    """How many times as long a step takes as one of a short sequence, which takes `short_ms`: the caches hold
    the short one, and from the long one each step waits for its part."""
    a_step, of_short = (_sequences_ns(c, mode) * 1e-6 / c.shape.T for c in (contest, short))
    return 1 + max(0.0, a_step - of_short) / (short_ms / short.shape.T)


def least_ms(contest: Contest, mode: str, threads: int) -> float:
    """Milliseconds under which no call of the layer comes. mode: "forward" or "training"."""
    return work_ms(contest, mode) / threads + _idle_ms(contest, mode)


def work_ms(contest: Contest, mode: str) -> float:
    """Milliseconds of one thread for products and gates, or for memory where that takes longer."""
    arithmetic = _products_ns(contest, mode) + _gates_ns(contest, mode)
    return max(arithmetic, _weights_ns(contest, mode), _sequences_ns(contest, mode)) * 1e-6


def flops(contest: Contest, mode: str) -> float:
    """Floating point operations of the products. Into a state that is given no gradient flows back."""
    kind, shape = contest.kind, contest.shape
    passes = PASSES[mode] * shape.flops(kind, contest.pairs)
    recurrent = 2 * shape.B * shape.L * shape.directions * kind.gates * shape.H * shape.output
    return passes - recurrent if mode == "training" else passes


def _products(contest: Contest) -> Iterator[Product]:
    """Those of the layers in one direction."""
    kind, shape, pairs = contest.kind, contest.shape, contest.pairs
    steps = pairs / shape.B if shape.new_length else shape.T
    a_step, together = (max(1, min(AT_ONCE, round(rows))) for rows in (pairs / steps, pairs))
    gates, output = kind.gates * shape.H, shape.output
    for layer in range(shape.L):
        yield Product(together, shape.directions * output if layer else shape.D, gates, False)
        yield Product(a_step, output, gates, True)
        if shape.proj:
            yield Product(a_step, shape.H, output, False)


def _products_ns(contest: Contest, mode: str) -> float:
    pairs, directions = contest.pairs, contest.shape.directions
    back = pairs - contest.shape.B  # into a state that is given no gradient flows
    nanoseconds = 0.0
    for rows, depth, columns, is_recurrent in _products(contest):
        operations = 2 * depth * columns * directions
        nanoseconds += pairs * operations / _product_speed(rows, depth, columns)
        if mode == "training":
            flowing = back if is_recurrent else pairs
            nanoseconds += flowing * operations / _product_speed(rows, columns, depth)
            nanoseconds += pairs * operations / _weights_speed(columns, round(pairs), depth)
    return nanoseconds


def _weights_speed(rows: int, pairs: int, columns: int) -> float:
    """Of a product over all pairs, in as many at once as are fastest."""
    return max(_product_speed(rows, max(1, min(pairs, many)), columns) for many in (AT_ONCE, 4 * AT_ONCE))


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


def _sequences_ns(contest: Contest, mode: str) -> float:
    """x and the states read, y and the final ones written; in training x once more, its gradient and that of
    y. What is given lies as torch has it, what is made as large blocks of our own do."""
    x, y = 4 * contest.pairs * contest.shape.D, 4 * contest.pairs * _width(contest)
    states = 4 * sum(state.numel() for state in contest.zeros)
    given, made = x + states, y + states
    if mode == "training":
        given, made = given + x + y, made + x
    return given / _reading_speed(round(given)) + made / _reading_speed(round(made), is_block=True)


def _traffic(contest: Contest, mode: str) -> int:
    """Bytes that a call reads or writes: sequences, states and weights, in training their gradients too."""
    sequences = contest.pairs * (contest.shape.D + _width(contest))
    numbers = sequences + sum(w.numel() for w in contest.ours.parameters())
    states = 2 * sum(state.numel() for state in contest.zeros)
    return round(4 * (numbers * (2 if mode == "training" else 1) + states))


def _width(contest: Contest) -> int:
    """Of y."""
    return contest.shape.directions * contest.shape.output


def _side_by_side() -> float:
    """How many times as many multiply-adds two threads do as one: two cores may be parts of one."""
    alone = _native.measure_peak(SECONDS)
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(_native.measure_peak, (SECONDS, SECONDS))) / alone


@cache
def _product_speed(rows: int, depth: int, columns: int) -> float:
    """GFLOP/s of one thread, by our kernels or by torch."""
    a, b = torch.randn(rows, depth), torch.randn(columns, depth)
    out = torch.empty(rows, columns)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = min(timeit.repeat(lambda: torch.mm(a, b.T, out=out), number=1, repeat=5))
    torch.set_num_threads(threads)
    by_torch = 2 * rows * depth * columns / seconds * 1e-9
    return max(by_torch, _native.measure_product(rows, depth, columns, SECONDS))


@cache
def _gates_speed(cell: str, backwards: bool) -> float:
    """Units a nanosecond of one thread."""
    return _native.measure_gates(cell, backwards, SECONDS)


@cache
def _reading_speed(size: int, is_block: bool = False) -> float:
    """GB/s of one thread that reads so many bytes again and again: a tensor of torch's or a block of ours,
    whose pages are larger."""
    return _native.measure_reading(_numbers(size, is_block), SECONDS)


def _numbers(size: int, is_block: bool) -> Tensor:
    """So many bytes of them, up to a whole 4,096."""
    shape = [max(1, -(-size // 4096)) * 1024]
    return (_native.empty(shape, "float32") if is_block else torch.empty(shape)).fill_(1.0)


@lru_cache(maxsize=len(PASSES))
def _idle_ms(contest: Contest, mode: str) -> float:
    """Measured once for all lines of a case."""
    run: Run = getattr(contest, mode)(_call_idle, _Idle(contest.ours))
    traffic = _traffic(contest, mode)
    if traffic < NEAR:
        return after(lambda: None, run, LONG)
    memory = _numbers(traffic, is_block=True)
    return after(lambda: _native.measure_reading(memory, ONCE), run, LONG)


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
