"""The native kernels on torch tensors.

Sequences are (T, B, n), or (B, T, n) with `batch_first`, or packed (rows, n) with `batch_sizes` as in
torch.nn.utils.rnn.PackedSequence. A single step is (B, n) without either, like its states, and has no y. The
directions of a bidirectional layer lie side by side in the last dimension of y, first the forward one. The
weights come as one flat tuple, for each direction those that exist of the fields of `penstock.cells.Weights`,
in this order. Shapes, dtypes and the values of lengths are checked by csrc/calls.hpp; memory for what they
give, and copies of what does not lie as they read it, come from csrc/tensors.hpp.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from penstock import _native
from penstock.cells import CELLS

Weights = Sequence[Tensor]


def is_single(x: Tensor, batch_sizes: Tensor | None) -> bool:
    """Whether a call is a single step."""
    return batch_sizes is None and x.dim() == 2


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
    hidden, output = weights[0].shape[0] // len(CELLS[options.cell].gates), weights[1].shape[1]
    if batch_sizes is None:
        return hidden, output, x.shape[0 if options.batch_first else 1]
    return hidden, output, cast(int, batch_sizes[0].item()) if h0 is None else h0.shape[1]


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
) -> tuple[Any, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """One layer: y (None of a single step), h_n, c_n, the cell states and the reserve.

    The last three are None where there are none: the cell states unless asked for, the reserve unless it is
    to `keep` for a backward pass.
    """
    cell, directions, batch_first = options
    return _native.layer_forward(
        cell, directions, tuple(weights), x, h0, c0, lengths, batch_sizes, batch_first,
        torch.get_num_threads(), cell_states, keep,
    )  # fmt: skip


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
    cell, directions, batch_first = options
    d_y, d_h_n, d_c_n, d_cell_states = d_outputs
    return _native.layer_backward(
        cell, directions, tuple(weights), x, h0, c0, lengths, batch_sizes, batch_first,
        torch.get_num_threads(), reserve, d_y, d_h_n, d_c_n, d_cell_states, needs,
    )  # fmt: skip
