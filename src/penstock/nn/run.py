"""Where a stack of layers runs: on the kernels, or, for tensors they lack, step by step on the reference."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from penstock import ops
from penstock.cells import CELLS, Weights, unroll


def run_layer(
    x: Tensor,
    state: tuple[Tensor | None, Tensor | None],
    weights: Sequence[Weights],
    *,
    cell: str,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    batch_first: bool = False,
    cell_states: bool = False,
) -> ops.Output:
    """One layer in one or both directions; arguments and result as those of `penstock.ops.layer`."""
    flat = [w for direction in weights for w in direction]
    if ops.is_native([x, *state, *flat]):
        return ops.layer(
            x, *state, weights, cell=cell, lengths=lengths, batch_sizes=batch_sizes, batch_first=batch_first,
            cell_states=cell_states,
        )  # fmt: skip
    if batch_sizes is not None:
        return _unroll_packed(x, state, weights, cell, batch_sizes)
    return _unroll(x, state, weights, cell, lengths, batch_first)


def _unroll_packed(x, state, weights, cell: str, batch_sizes: Tensor) -> ops.Output:
    padded, lengths = pad_packed_sequence(PackedSequence(x, batch_sizes))
    y, h_n, c_n, c_steps = _unroll(padded, state, weights, cell, lengths, batch_first=False)
    packed = (pack_padded_sequence(s, lengths).data if s.numel() else s for s in (y, c_steps))
    return ops.Output(next(packed), h_n, c_n, next(packed))


def _unroll(x, state, weights, cell: str, lengths: Tensor | None, batch_first: bool) -> ops.Output:
    x = x.transpose(0, 1) if batch_first else x
    names = CELLS[cell].state
    ys, finals, cells = [], [], []
    for d, w in enumerate(weights):
        start = tuple(
            x.new_zeros(x.shape[1], w.weight_hh.shape[1] if name == "h" else w.weight_hh.shape[0] // 4)
            if given is None
            else given[d]
            for name, given in zip(names, state, strict=False)
        )
        y, final, c_steps = unroll(CELLS[cell], x, start, w, lengths=lengths, reverse=d == 1)
        ys.append(y)
        finals.append(final)
        cells.append(c_steps)
    y = torch.cat(ys, -1)
    h_n, c_n = torch.stack([f[0] for f in finals]), x.new_empty(0)
    c_steps = x.new_empty(0)
    if "c" in names:
        c_n, c_steps = torch.stack([f[1] for f in finals]), torch.cat(cells, -1)
    if batch_first:
        y, c_steps = y.transpose(0, 1), c_steps.transpose(0, 1) if c_steps.numel() else c_steps
    return ops.Output(y, h_n, c_n, c_steps)


def run_stack(
    x: Tensor,
    state: tuple[Tensor | None, Tensor | None],
    weights: Sequence[Sequence[Weights]],
    *,
    dropout: float,
    **options,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Layers one on another, `weights[layer][direction]`, with dropout between them (0: none).

    state: h0 (L * directions, B, R) and c0 (L * directions, B, H), or None for zeros.
    Returns y of the last layer, h_n, c_n (L * directions, B, ...), and the cell states of every layer.
    """
    directions = len(weights[0])
    h_n, c_n, c_steps = [], [], []
    for layer, layer_weights in enumerate(weights):
        if layer and dropout:
            x = F.dropout(x, dropout)
        rows = slice(layer * directions, (layer + 1) * directions)
        own = tuple(None if s is None else s[rows] for s in state)
        x, h, c, steps = run_layer(x, own, layer_weights, **options)  # type: ignore[arg-type]
        h_n.append(h)
        c_n.append(c)
        c_steps.append(steps)
    return x, torch.cat(h_n), torch.cat(c_n), c_steps
