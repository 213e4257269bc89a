"""Layers one on another, each run by penstock.ops."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from penstock import ops

State = tuple[Tensor | None, Tensor | None]
"""h and c; c is None for cells without one, both are None for zeros."""


def run_stack(
    route: ops.Route,
    x: Tensor,
    state: State,
    weights: Sequence[tuple[Tensor, ...]],
    options: ops.Options,
    dropout: float,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    cell_states: bool = False,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Layers one on another, with dropout between them (0: none).

    state: h0 (L * directions, B, R) and c0 (L * directions, B, H), or None for zeros.
    weights: of each layer.
    Returns y of the last layer, h_n, c_n (L * directions, B, ...), and the cell states of every layer.
    """
    if len(weights) == 1:
        y, h_n, c_n, c_steps = ops.run(
            route, x, *state, weights[0], lengths, batch_sizes, options, cell_states
        )
        return y, h_n, c_n, [c_steps]
    outputs = []
    for layer, own in enumerate(weights):
        if layer and dropout:
            x = F.dropout(x, dropout)
        rows = slice(layer * options.directions, (layer + 1) * options.directions)
        h0, c0 = (None if s is None else s[rows] for s in state)
        outputs.append(ops.run(route, x, h0, c0, own, lengths, batch_sizes, options, cell_states))
        x = outputs[-1].y
    _, h_n, c_n, c_steps = zip(*outputs, strict=True)
    return x, torch.cat(h_n), torch.cat(c_n), list(c_steps)
