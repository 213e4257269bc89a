"""`penstock::layer` and `penstock::layer_backward`: one recurrent layer as operators of torch.

Whatever has to see an operator sees these: torch.compile, torch.export, torch.jit.trace, and tensors that
stand for others. An operator gives tensors only: what is not wanted or does not exist is empty.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from penstock import _native
from penstock.cells import CELLS
from penstock.ops import kernel, reference
from penstock.ops.kernel import Options


def _or_empty(tensors: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
    return [like.new_empty(0) if t is None else t for t in tensors]


# ---- forward -----------------------------------------------------------------------------------------------


@torch.library.custom_op("penstock::layer", mutates_args=(), device_types="cpu")
def layer(
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
    """y, h_n, c_n, the cell states, and what a backward pass needs."""
    options = Options(cell, directions, batch_first)
    outputs = kernel.forward(x, h0, c0, weights, lengths, batch_sizes, options, cell_states, keep)
    return tuple(_or_empty(outputs, x))  # type: ignore[return-value]


@layer.register_fake
def _(x, h0, c0, weights, lengths, batch_sizes, cell, directions, batch_first, cell_states, keep):
    """Tensors of the shapes that the kernels give (csrc/layers.hpp)."""
    options = Options(cell, directions, batch_first)
    hidden, output, batch = kernel.sizes(x, h0, weights, batch_sizes, options)
    *places, _ = x.shape
    y, h_n = x.new_empty(*places, directions * output), x.new_empty(directions, batch, output)
    c_n = c_steps = reserve = None
    if "c" in CELLS[cell].state:
        c_n = x.new_empty(directions, batch, hidden)
        c_steps = x.new_empty(*places, directions * hidden) if cell_states else None
    if keep:
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        size = _native.reserve_size(cell, hidden, output, x.dtype == torch.float64)
        reserve = x.new_empty(directions, *places, size, dtype=dtype)
    return tuple(_or_empty([y, h_n, c_n, c_steps, reserve], x))


def _keep_for_backward(ctx, inputs, output) -> None:
    x, h0, c0, weights, lengths, batch_sizes, *options, _, _ = inputs
    ctx.set_materialize_grads(False)  # zeros for the reserve alone would cost as much as the forward pass
    ctx.save_for_backward(x, h0, c0, *weights, output[4], lengths, batch_sizes)
    ctx.options = options


def _backward(ctx, d_y, d_h_n, d_c_n, d_cell_states, _):
    x, h0, c0, *weights, reserve, lengths, batch_sizes = ctx.saved_tensors
    needs_x, needs_h0, needs_c0, needs_weights = ctx.needs_input_grad[:4]
    needs = [needs_x, needs_h0, needs_c0, *needs_weights]
    gradients = layer_backward(
        d_y,
        d_h_n,
        d_c_n,
        d_cell_states,
        x,
        h0,
        c0,
        weights,
        reserve,
        lengths,
        batch_sizes,
        *ctx.options,
        needs,
    )
    d_x, d_h0, d_c0, *d_weights = (g if n else None for g, n in zip(gradients, needs, strict=True))
    return d_x, d_h0, d_c0, d_weights, *[None] * 7


layer.register_autograd(_backward, setup_context=_keep_for_backward)


# ---- backward ----------------------------------------------------------------------------------------------


@torch.library.custom_op("penstock::layer_backward", mutates_args=(), device_types="cpu")
def layer_backward(
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
    needs: Sequence[bool],
) -> list[Tensor]:
    """The gradients of x, h0, c0 and each weight; empty those it does not need."""
    gradients = kernel.backward(
        _of_real_outputs(d_y, d_h_n, d_c_n, d_cell_states), x, h0, c0, weights, reserve, lengths, batch_sizes,
        Options(cell, directions, batch_first), needs,
    )  # fmt: skip
    return _or_empty(gradients, x)


def _of_real_outputs(*d_outputs: Tensor | None) -> list[Tensor | None]:
    """Without the gradients of the empty tensors that stand for outputs."""
    return [None if d is None or d.dim() == 1 else d for d in d_outputs]


@layer_backward.register_fake
def _(
    d_y, d_h_n, d_c_n, d_cell_states, x, h0, c0, weights, reserve, lengths, batch_sizes, cell, directions,
    batch_first, needs,
):  # fmt: skip
    tensors = [x, h0, c0, *weights]
    return [
        x.new_empty(t.shape if t is not None and n else (0,)) for t, n in zip(tensors, needs, strict=True)
    ]


def _keep_for_second(ctx, inputs, output) -> None:
    *d_outputs, x, h0, c0, weights, _, lengths, batch_sizes, cell, directions, batch_first, needs = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(lengths, batch_sizes, *_of_real_outputs(*d_outputs), x, h0, c0, *weights)
    ctx.options, ctx.needs = Options(cell, directions, batch_first), needs


def _second_backward(ctx, d_gradients):
    lengths, batch_sizes, *tensors = ctx.saved_tensors
    d_gradients = [d if n else None for d, n in zip(d_gradients, ctx.needs, strict=True)]
    gradients = reference.second_gradients(
        d_gradients, tensors[:4], tensors[4:], lengths, batch_sizes, ctx.options
    )
    return *gradients[:7], gradients[7:], *[None] * 7


layer_backward.register_autograd(_second_backward, setup_context=_keep_for_second)
