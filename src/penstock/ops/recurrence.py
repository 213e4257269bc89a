"""One recurrent layer on the kernels, with its derivatives: who calls what.

A plain call goes straight to the kernels; where a gradient will be wanted, as a function of autograd. What
has to see an operator of torch gets one (ops/operators.py), and derivatives that no kernel computes come from
the reference: forward ones, and second ones (the gradient of a gradient). ops/route.py decides.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling

from penstock.cells import Weights
from penstock.ops import functions, kernel, operators, reference
from penstock.ops.kernel import Options
from penstock.ops.route import NATIVE_DTYPES, Route, plain, route

NOTHING = {dtype: torch.empty(0, dtype=dtype) for dtype in NATIVE_DTYPES}
"""In place of what a cell does not have."""


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

    Raises ValueError for a wrong shape and for lengths out of range, TypeError for a wrong dtype.
    """
    flat = tuple(w for direction in weights for w in direction if w is not None)
    options = Options(cell, len(weights), batch_first)
    chosen = route((x, h0, c0, *flat))
    chosen = (
        Route.DIRECT if chosen is Route.FOREIGN else chosen
    )  # where the kernels' bindings say what is wrong
    return run(chosen, x, h0, c0, flat, lengths, batch_sizes, options, cell_states)


def whole(
    cell: str,
    parameters: dict[str, Any],
    names: list[list[str]],
    x: Any,
    hx: Any,
    dimensions: int,
    batch_first: bool,
) -> tuple[Any, Any] | None:
    """`run` on the direct route, of a batch of whole sequences, in the fewest steps: y and the final states.

    names: of the weights of each direction among the parameters: the kernels find them themselves.
    hx: h0, or, for a cell with a cell state, a pair of h0 and c0; None for zeros. The final states likewise.
    dimensions: of x: three, or two, (B, D), for a single step: then the states are (B, n), and y is None.

    None where this is not that case, or something else has to be seen to: autocast, a transform, a state of
    another kind. Raises ValueError for a wrong shape.
    """
    if is_compiling():
        return None
    return plain.run(functions.apply_plainly, cell, parameters, names, x, hx, dimensions, batch_first)


def _need_gradients(*tensors: Tensor | None) -> bool:
    for t in tensors:  # noqa: SIM110 - any() of a generator takes a microsecond
        if t is not None and t.requires_grad:
            return True
    return False


def run(
    route: Route,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: tuple[Tensor, ...],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    options: Options,
    cell_states: bool = False,
) -> Output:
    """As `layer`, the weights as one flat tuple (ops/kernel.py), on the route found for these tensors.

    The reference gives the cell states wherever there are any.
    """
    tensors = (x, h0, c0, *weights)
    keep = torch.is_grad_enabled() and _need_gradients(*tensors)
    if route is Route.DIRECT:
        if keep:
            outputs = functions.apply_plainly(options, cell_states, lengths, batch_sizes, *tensors)
        else:
            outputs = kernel.forward(x, h0, c0, weights, lengths, batch_sizes, options, cell_states, False)
    elif route is Route.OPERATOR:
        # A trace is run with and without gradients: it always keeps what a backward would need.
        keep = keep or torch.jit.is_tracing()
        outputs = operators.layer(x, h0, c0, weights, lengths, batch_sizes, *options, cell_states, keep)
    elif route is Route.TRANSFORMED:
        outputs = functions.Layer.apply(options, cell_states, keep, lengths, batch_sizes, *tensors)
    else:
        outputs = reference.layer(x, h0, c0, weights, lengths, batch_sizes, options)
    y, h_n, c_n, c_steps = outputs[:4]  # type: ignore[index]
    if c_n is not None and c_steps is not None:
        return Output(y, h_n, c_n, c_steps)
    nothing = NOTHING.get(x.dtype)
    nothing = x.new_empty(0) if nothing is None else nothing
    return Output(y, h_n, nothing if c_n is None else c_n, nothing if c_steps is None else c_steps)
