"""`penstock::layer` and `penstock::layer_backward`: one recurrent layer, in one or both directions.

Sequences are (T, B, n), or (B, T, n) with `batch_first`, or packed (rows, n) with `batch_sizes` as in
torch.nn.utils.rnn.PackedSequence. The directions of a bidirectional layer lie side by side in the last
dimension of y, first the forward one. The weights come as one flat list, for each direction those that exist
of weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peephole, in this order.

The operators take float32 and float64 on the CPU. Everything that must be the same for every caller
(lengths within range, dtypes, shapes) is checked in the kernels' bindings.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from penstock import _native
from penstock.cells import CELLS, Weights
from penstock.ops.memory import empty

NATIVE_DTYPES = (torch.float32, torch.float64)


class Output(NamedTuple):
    """What a layer gives; c_n and cell_states are empty for cells without a cell state."""

    y: Tensor
    """(T, B, directions * R), (B, T, ...) or (rows, ...): h of every step, zero beyond a row's length."""
    h_n: Tensor
    """(directions, B, R): h at each row's length."""
    c_n: Tensor
    """(directions, B, H): c at each row's length."""
    cell_states: Tensor
    """(T, B, directions * H), laid out as y: c of every step; empty unless asked for."""


def is_native(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can take these tensors: all on the CPU, all of one dtype that they have."""
    given = [t for t in tensors if t is not None]
    dtype = given[0].dtype
    return dtype in NATIVE_DTYPES and all(t.device.type == "cpu" and t.dtype == dtype for t in given)


def layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Weights],
    *,
    cell: str,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    batch_first: bool = False,
    cell_states: bool = False,
) -> Output:
    """Run one recurrent layer.

    x: (T, B, D), (B, T, D) with `batch_first`, or (rows, D) with `batch_sizes`.
    h0: (directions, B, R), c0: (directions, B, H); None is zeros.
    weights: one `Weights` a direction; the second one runs from the end of each row to its start.
    lengths: int64 (B,) on the CPU, each from 0 to T, in any order.
    cell_states: also give the cell state of every step.
    """
    flat = [w for direction in weights for w in direction if w is not None]
    tensors = [x, h0, c0, *flat]
    # A trace is run with and without gradients: it always keeps what a backward would need.
    backward_follows = torch.jit.is_tracing() or (
        torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    )
    y, h_n, c_n, c_steps, _ = torch.ops.penstock.layer(
        x, h0, c0, flat, lengths, batch_sizes, cell, len(weights), batch_first, cell_states, backward_follows
    )
    return Output(y, h_n, c_n, c_steps)


# ---- weights and shapes ------------------------------------------------------------------------------------


def _directions(flat: Sequence[Tensor], directions: int) -> list[Weights]:
    """The flat list as one `Weights` a direction. A vector too many over the two biases is a peephole."""
    count = len(flat) // directions
    return [_named(flat[d * count : (d + 1) * count]) for d in range(directions)]


def _named(weights: Sequence[Tensor]) -> Weights:
    rest = list(weights[2:])
    biases = (rest.pop(0), rest.pop(0)) if [w.dim() for w in rest[:2]] == [1, 1] else (None, None)
    projection = rest.pop(0) if rest and rest[0].dim() == 2 else None
    peephole = rest.pop(0) if rest else None
    return Weights(weights[0], weights[1], *biases, projection, peephole)


def _native_cell(cell: str, weights: Weights) -> str:
    return cell if weights.weight_peephole is None else f"{cell}_peephole"


def _sizes(cell: str, weights: Weights) -> tuple[int, int]:
    """H and R."""
    return weights.weight_ih.shape[0] // len(CELLS[cell].gates), weights.weight_hh.shape[1]


def _batch(x: Tensor, batch_sizes: Tensor | None, h0: Tensor | None, batch_first: bool) -> int:
    if batch_sizes is None:
        return x.shape[0 if batch_first else 1]
    return cast(int, batch_sizes[0].item()) if h0 is None else h0.shape[1]


def _allocate(x, h0, flat, batch_sizes, cell, directions: int, batch_first, cell_states, keep):
    """y, h_n, c_n, cell_states, reserve for the operator; also its fake kernel."""
    weights = _directions(flat, directions)
    hidden, output = _sizes(cell, weights[0])
    batch = _batch(x, batch_sizes, h0, batch_first)
    has_c = "c" in CELLS[cell].state
    values: int = _reserve_values(cell, weights[0], hidden, output, x.dtype)
    return (
        empty((*x.shape[:-1], directions * output), x),
        empty((directions, batch, output), x),
        empty((directions, batch, hidden) if has_c else (0,), x),
        empty((*x.shape[:-1], directions * hidden) if has_c and cell_states else (0,), x),
        empty((directions, *x.shape[:-1], values) if keep else (0,), x),
    )


def _reserve_values(cell: str, weights: Weights, hidden: int, output: int, dtype: torch.dtype) -> int:
    """Values kept for each (step, row) pair: the same on every machine, so that graphs can be moved."""
    return _native.reserve_size(_native_cell(cell, weights), 1, hidden, output, dtype == torch.float64)


def _time_major(sequence: Tensor | None, batch_first: bool) -> Tensor | None:
    """(T, B, n) or (rows, n) with a contiguous last dimension, as the kernels want it."""
    if sequence is None or sequence.dim() == 1:  # a sequence that the cell does not have
        return None
    sequence = sequence.detach()
    if sequence.stride(-1) != 1:
        sequence = sequence.contiguous()
    return sequence.transpose(0, 1) if batch_first and sequence.dim() == 3 else sequence


def _part(sequence: Tensor | None, direction: int, size: int) -> Tensor | None:
    """The share of a direction in the last dimension."""
    return None if sequence is None else sequence.narrow(-1, direction * size, size)


def _row(states: Tensor | None, direction: int) -> Tensor | None:
    """The share of a direction in (directions, B, n)."""
    return None if states is None or states.numel() == 0 else states[direction].detach().contiguous()


def _detached(weights: Weights) -> list[Tensor | None]:
    return [None if w is None else w.detach().contiguous() for w in weights]


# ---- forward -----------------------------------------------------------------------------------------------


@torch.library.custom_op("penstock::layer", mutates_args=(), device_types="cpu")
def _layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
    directions: int,
    batch_first: bool,
    cell_states: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    outputs = _allocate(x, h0, weights, batch_sizes, cell, directions, batch_first, cell_states, keep)
    y, h_n, c_n, c_steps, reserve = outputs
    y_steps = _time_major(y, batch_first)
    c_wanted = _time_major(c_steps, batch_first) if cell_states and c_n.numel() else None
    for d, w in enumerate(_directions(weights, directions)):
        hidden, output = _sizes(cell, w)
        _native.forward(
            cell=_native_cell(cell, w),
            weights=_detached(w),
            x=_time_major(x, batch_first),
            h0=_row(h0, d),
            c0=_row(c0, d),
            y=_part(y_steps, d, output),
            h_n=h_n[d],
            c_n=c_n[d] if c_n.dim() == 3 else None,
            cell_states=_part(c_wanted, d, hidden),
            reserve=reserve[d] if keep else None,
            lengths=lengths,
            batch_sizes=batch_sizes,
            reverse=d == 1,
            threads=torch.get_num_threads(),
        )
    return outputs


@_layer.register_fake
def _(x, h0, c0, weights, lengths, batch_sizes, cell, directions, batch_first, cell_states, keep):
    return _allocate(x, h0, weights, batch_sizes, cell, directions, batch_first, cell_states, keep)


# ---- backward ----------------------------------------------------------------------------------------------


@torch.library.custom_op("penstock::layer_backward", mutates_args=(), device_types="cpu")
def _layer_backward(
    d_y: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    d_cell_states: Tensor | None,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    reserve: Tensor,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    cell: str,
    directions: int,
    batch_first: bool,
    needs_x: bool,
) -> list[Tensor]:
    gradients = _allocate_gradients(x, h0, c0, weights, needs_x)
    d_x, d_h0, d_c0 = gradients[:3]
    d_x_steps = _time_major(d_x, batch_first) if needs_x else None
    other_d_x = torch.empty_like(d_x_steps) if d_x_steps is not None and directions == 2 else None
    d_weights = _directions(gradients[3:], directions)
    for d, w in enumerate(_directions(weights, directions)):
        hidden, output = _sizes(cell, w)
        _native.backward(
            cell=_native_cell(cell, w),
            weights=_detached(w),
            x=_time_major(x, batch_first),
            h0=_row(h0, d),
            c0=_row(c0, d),
            reserve=reserve[d],
            d_y=_part(_time_major(d_y, batch_first), d, output),
            d_h_n=_row(d_h_n, d),
            d_c_n=_row(d_c_n, d),
            d_cell_states=_part(_time_major(d_cell_states, batch_first), d, hidden),
            d_x=other_d_x if d == 1 else d_x_steps,
            d_h0=d_h0[d] if h0 is not None else None,
            d_c0=d_c0[d] if c0 is not None else None,
            d_weights=list(d_weights[d]),
            lengths=lengths,
            batch_sizes=batch_sizes,
            reverse=d == 1,
            threads=torch.get_num_threads(),
        )
    if d_x_steps is not None and other_d_x is not None:
        d_x_steps += other_d_x
    return gradients


@_layer_backward.register_fake
def _(
    d_y, d_h_n, d_c_n, d_cell_states, x, h0, c0, weights, reserve, lengths, batch_sizes, cell, directions,
    batch_first, needs_x,
):  # fmt: skip
    return _allocate_gradients(x, h0, c0, weights, needs_x)


def _allocate_gradients(x, h0, c0, weights, needs_x) -> list[Tensor]:
    """Of x, h0, c0 (empty where not wanted or not given), then of each weight."""
    like = [x if needs_x else None, h0, c0, *weights]
    return [empty((0,) if t is None else t.shape, x) for t in like]


def _setup_context(ctx, inputs, output) -> None:
    x, h0, c0, weights, lengths, batch_sizes, cell, directions, batch_first, _, _ = inputs
    ctx.set_materialize_grads(False)  # zeros for the reserve alone would cost as much as the forward pass
    ctx.save_for_backward(x, h0, c0, *weights, output[4], lengths, batch_sizes)
    ctx.options = (cell, directions, batch_first)


def _backward(ctx, d_y, d_h_n, d_c_n, d_cell_states, _):
    x, h0, c0, *weights, reserve, lengths, batch_sizes = ctx.saved_tensors
    d_x, d_h0, d_c0, *d_weights = torch.ops.penstock.layer_backward(
        d_y, d_h_n, d_c_n, d_cell_states, x, h0, c0, weights, reserve, lengths, batch_sizes, *ctx.options,
        ctx.needs_input_grad[0],
    )  # fmt: skip
    return (
        d_x if ctx.needs_input_grad[0] else None,
        None if h0 is None else d_h0,
        None if c0 is None else d_c0,
        d_weights,
        *[None] * 7,
    )


_layer.register_autograd(_backward, setup_context=_setup_context)
