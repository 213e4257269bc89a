"""The native kernels on torch tensors: memory for what they give, and memory in the form they take.

Sequences are (T, B, n), or (B, T, n) with `batch_first`, or packed (rows, n) with `batch_sizes` as in
torch.nn.utils.rnn.PackedSequence. The directions of a bidirectional layer lie side by side in the last
dimension of y, first the forward one. The weights come as one flat tuple, for each direction those that exist
of the fields of `penstock.cells.Weights`, in this order. Shapes, dtypes and the values of lengths are checked
by csrc/calls.hpp.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from penstock import _native
from penstock.cells import CELLS
from penstock.ops import memory

Weights = Sequence[Tensor]

GATES = {name: len(cell.gates) for name, cell in CELLS.items()}
HAS_CELL_STATE = {name: "c" in cell.state for name, cell in CELLS.items()}


class Options(NamedTuple):
    """What a layer is, beside its tensors."""

    cell: str
    """The name in `penstock.cells.CELLS`."""
    directions: int
    batch_first: bool


def sizes(
    x: Tensor, h0: Tensor | None, weights: Weights, batch_sizes: Tensor | None, options: Options
) -> tuple[int, int, int]:
    """H, R and B, read off the shapes; B of a packed sequence without initial states off `batch_sizes`."""
    hidden, output = weights[0].shape[0] // GATES[options.cell], weights[1].shape[1]
    if batch_sizes is None:
        return hidden, output, x.shape[0 if options.batch_first else 1]
    return hidden, output, cast(int, batch_sizes[0].item()) if h0 is None else h0.shape[1]


def allocate(
    x: Tensor,
    h0: Tensor | None,
    weights: Weights,
    batch_sizes: Tensor | None,
    options: Options,
    cell_states: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """y, h_n, c_n, the cell states and the reserve, the last three where there are any or they are wanted."""
    cell, directions, _ = options
    hidden, output, batch = sizes(x, h0, weights, batch_sizes, options)
    *places, _ = x.shape
    y = memory.empty((*places, directions * output), x)
    h_n = memory.empty((directions, batch, output), x)
    c_n = c_steps = reserve = None
    if HAS_CELL_STATE[cell]:
        c_n = memory.empty((directions, batch, hidden), x)
        c_steps = memory.empty((*places, directions * hidden), x) if cell_states else None
    if keep:
        like = x.new_empty(0, dtype=torch.float32) if x.dtype == torch.bfloat16 else x
        reserve = memory.empty((directions, *places, reserved(cell, hidden, output, x.dtype)), like)
    return y, h_n, c_n, c_steps, reserve


def reserved(cell: str, hidden: int, output: int, dtype: torch.dtype) -> int:
    """Values kept for each (step, row) pair: the same on every machine, so that graphs can be moved."""
    return _native.reserve_size(cell, 1, hidden, output, dtype == torch.float64)


def forward(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Weights,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    options: Options,
    cell_states: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """One layer; the result as that of `allocate`, the reserve only to `keep` for a backward pass."""
    outputs = allocate(x, h0, weights, batch_sizes, options, cell_states, keep)
    cell, directions, batch_first = options
    _native.layer_forward(
        cell, directions, _matrices(weights), x if x.is_contiguous() else _rows(x), _contiguous(h0),
        _contiguous(c0), lengths, batch_sizes, batch_first, torch.get_num_threads(), *outputs,
    )  # fmt: skip
    return outputs


def allocate_gradients(
    tensors: Sequence[Tensor | None], needs: Sequence[bool], like: Tensor
) -> list[Tensor | None]:
    """Memory of the dtype of `like` for the gradient of each tensor that needs one."""
    return [
        memory.empty(t.shape, like) if t is not None and n else None
        for t, n in zip(tensors, needs, strict=True)
    ]


def backward(
    d_outputs: Sequence[Tensor | None],
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Weights,
    reserve: Tensor,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    options: Options,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of x, h0, c0 and each weight, those that it `needs`.

    d_outputs: the gradients of y, h_n, c_n and the cell states; None is zeros.
    """
    gradients = allocate_gradients([x, h0, c0, *weights], needs, x)
    d_x, d_h0, d_c0, *d_weights = gradients
    d_y, d_h_n, d_c_n, d_cell_states = d_outputs
    cell, directions, batch_first = options
    _native.layer_backward(
        cell, directions, _matrices(weights), _rows(x), _contiguous(h0), _contiguous(c0), lengths,
        batch_sizes, batch_first, torch.get_num_threads(), reserve, _rows(d_y), _contiguous(d_h_n),
        _contiguous(d_c_n), _rows(d_cell_states), d_x, d_h0, d_c0, tuple(d_weights),
    )  # fmt: skip
    return gradients


def _matrices(weights: Weights) -> tuple[Tensor, ...]:
    for w in weights:
        if not w.is_contiguous():
            return tuple(w.contiguous() for w in weights)
    return weights if type(weights) is tuple else tuple(weights)


def _rows(sequence: Tensor | None) -> Tensor | None:
    """With a contiguous last dimension."""
    if sequence is None or sequence.is_contiguous() or sequence.stride(-1) == 1:
        return sequence
    return sequence.contiguous()


def _contiguous(state: Tensor | None) -> Tensor | None:
    return state if state is None or state.is_contiguous() else state.contiguous()
