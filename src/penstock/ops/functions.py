"""A layer and its backward pass as functions of autograd, which torch.func can transform too.

The first derivatives are the kernels'. Second ones come from the reference, which runs both passes again step
by step; nobody who does not ask for them pays for them.

Under vmap the mapped dimension becomes part of the batch: one call of the kernel. Where the weights are
mapped, or their gradients wanted (which sum over the batch), it is one call for each place of the dimension.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from penstock.ops import kernel, operators, reference
from penstock.ops.kernel import Options
from penstock.ops.route import are_mapped_by_autograd, is_plain, is_transformed, plain


class PlainLayer(Function):
    """The forward pass where only autograd looks on: with as little around the kernels as can be.

    (options, cell_states, lengths, batch_sizes, x, h0, c0, *weights) to y, h_n, c_n and the cell states. The
    only one that takes single steps.
    """

    @staticmethod
    def forward(ctx, *arguments) -> Any:
        return plain.keep(ctx, *arguments)

    @staticmethod
    def backward(ctx, *d_outputs) -> Any:
        return None, None, None, None, *_gradients(ctx, d_outputs, ctx.needs_input_grad[4:])


class Layer(Function):
    """The forward pass, for transforms.

    (options, cell_states, keep, lengths, batch_sizes, x, h0, c0, *weights) to what `kernel.forward` gives.
    """

    @staticmethod
    def forward(
        options: Options, cell_states: bool, keep: bool, lengths, batch_sizes, x, h0, c0, *weights
    ) -> Any:
        return kernel.forward(x, h0, c0, weights, lengths, batch_sizes, options, cell_states, keep)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        options, _, _, *tensors = inputs
        reserve = output[4]
        ctx.set_materialize_grads(False)
        if reserve is not None:
            ctx.mark_non_differentiable(reserve)
        ctx.save_for_backward(reserve, *tensors)
        ctx.options = options

    @staticmethod
    def backward(ctx, *d_outputs) -> Any:
        return None, None, None, None, None, *_gradients(ctx, d_outputs[:4], ctx.needs_input_grad[5:])

    @staticmethod
    def vmap(info, in_dims, *arguments) -> Any:
        options, cell_states, keep, lengths, batch_sizes, x, h0, c0, *weights = arguments
        if any(dim is not None for dim in (in_dims[4], *in_dims[8:])):
            return _place_by_place(Layer.apply, info, in_dims, arguments)
        count, axis = info.batch_size, _batch_axis(batch_sizes, options)
        *outputs, reserve = Layer.apply(
            options, cell_states, keep, _fold(lengths, in_dims[3], 0, count), _times(batch_sizes, count),
            _fold(x, in_dims[5], axis, count), _fold(h0, in_dims[6], 1, count),
            _fold(c0, in_dims[7], 1, count), *weights,
        )  # type: ignore[misc]  # fmt: skip
        unfolded = [_unfold(t, at, count) for t, at in zip(outputs, (axis, 1, 1, axis), strict=True)]
        return tuple(zip(*unfolded, _split(reserve, axis, count), strict=True))


def _gradients(ctx, d_outputs: tuple, needs: Sequence[bool]) -> Any:
    """Of x, h0, c0 and each weight; whoever looks on as well sees a function."""
    saved = ctx.saved_tensors
    found = plain.gradients(ctx.options, saved, d_outputs, needs)
    if found is not None:
        return found
    options, (reserve, lengths, batch_sizes, *inputs) = Options(*ctx.options), saved
    if kernel.is_single(inputs[0], batch_sizes):
        return _gradients_of_step(options, d_outputs, inputs, reserve, needs)
    return _seen_gradients(options, d_outputs, inputs, lengths, batch_sizes, reserve, needs)


def _seen_gradients(options: Options, d_outputs, inputs, lengths, batch_sizes, reserve, needs) -> Any:
    """By a function, for whoever looks on."""
    if are_mapped_by_autograd(d_outputs):
        return reference.gradients(d_outputs, inputs, lengths, batch_sizes, options)
    differentiated = torch.is_grad_enabled() or is_transformed()
    backward = LayerBackward.apply if differentiated else LayerBackward.forward
    return backward(options, needs, lengths, batch_sizes, reserve, *d_outputs, *inputs)


def _gradients_of_step(options: Options, d_outputs, inputs, reserve, needs) -> Any:
    """The same for a single step, as a sequence of one."""
    _, *d_states = d_outputs
    d_states = [None if d is None else d[None] for d in d_states]
    sequence = [None if t is None else t[None] for t in inputs[:3]]
    gradients = _seen_gradients(
        options, (None, *d_states), [*sequence, *inputs[3:]], None, None, reserve[None], needs
    )
    return *(None if g is None else g[0] for g in gradients[:3]), *gradients[3:]


class LayerBackward(Function):
    """The backward pass.

    (options, needs, lengths, batch_sizes, reserve, d_y, d_h_n, d_c_n, d_cell_states, x, h0, c0, *weights) to
    the gradients of x, h0, c0 and each weight, None where `needs` is false.
    """

    @staticmethod
    def forward(options: Options, needs, lengths, batch_sizes, reserve, *tensors) -> Any:
        d_outputs, (x, h0, c0, *weights) = tensors[:4], tensors[4:]
        if is_plain((*d_outputs, x)):
            return tuple(
                kernel.backward(d_outputs, x, h0, c0, weights, reserve, lengths, batch_sizes, options, needs)
            )
        gradients = operators.layer_backward(
            *d_outputs, x, h0, c0, weights, reserve, lengths, batch_sizes, *options, needs
        )
        return tuple(g if n else None for g, n in zip(gradients, needs, strict=True))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        options, _, lengths, batch_sizes, _, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(lengths, batch_sizes, *tensors)
        ctx.options = options

    @staticmethod
    def backward(ctx, *d_gradients) -> Any:
        lengths, batch_sizes, *tensors = ctx.saved_tensors
        again = reference.second_gradients(
            d_gradients, tensors[:4], tensors[4:], lengths, batch_sizes, ctx.options
        )
        return None, None, None, None, None, *again

    @staticmethod
    def vmap(info, in_dims, *arguments) -> Any:
        needs, batch_sizes_dim, reserve_dim, weights_dims = arguments[1], in_dims[3], in_dims[4], in_dims[12:]
        if reserve_dim is None or any(dim is not None for dim in (batch_sizes_dim, *weights_dims)):
            return _place_by_place(LayerBackward.apply, info, in_dims, arguments)
        if any(needs[3:]):
            return _place_by_place(_backward_alone, info, in_dims, arguments)
        return _folded_backward(info.batch_size, in_dims, *arguments)


# Function.apply binds default arguments by inspection and looks for transforms, for several times the cost of
# all else that autograd does. A plain call has neither, and takes what Function.apply comes down to.
apply_plainly: Callable[..., Any] = super(Function, PlainLayer).apply  # type: ignore[misc]


# ---- the mapped dimension ----------------------------------------------------------------------------------


def _batch_axis(batch_sizes: Tensor | None, options: Options) -> int:
    """Where the batch lies in a sequence."""
    return 0 if options.batch_first or batch_sizes is not None else 1


def _fold(t: Tensor | None, dim: int | None, axis: int, count: int) -> Tensor | None:
    """Mapped dimension `dim` (None: the same in all places) into the batch, which lies at `axis`."""
    if t is None:
        return None
    beside = axis + 1
    if dim is None:
        t = t.unsqueeze(beside).expand(*t.shape[:beside], count, *t.shape[beside:])
    else:
        t = t.movedim(dim, beside)
    return t.flatten(axis, beside)


def _unfold(t: Tensor | None, axis: int, count: int) -> tuple[Tensor | None, int | None]:
    """The mapped dimension out of the batch again, and where it now lies."""
    return (None, None) if t is None else (t.unflatten(axis, (t.shape[axis] // count, count)), axis + 1)


def _times(batch_sizes: Tensor | None, count: int) -> Tensor | None:
    return None if batch_sizes is None else batch_sizes * count


def _split(reserve: Tensor | None, axis: int, count: int) -> tuple[Tensor | None, int | None]:
    """The reserve of a folded call, whose order only the kernels know, under the shape of one place."""
    if reserve is None:
        return None, None
    shape = list(reserve.shape)
    shape[1 + axis] //= count
    return reserve.view(count, *shape), 0


def _joined(reserve: Tensor, dim: int, axis: int, count: int) -> Tensor:
    """`_split` undone."""
    reserve = reserve.movedim(dim, 0)
    shape = list(reserve.shape[1:])
    shape[1 + axis] *= count
    return reserve.reshape(shape)


def _place_by_place(function: Callable, info, in_dims: Sequence, arguments: Sequence) -> tuple[Any, Any]:
    def at(place: int) -> list:
        return [
            a.select(d, place) if isinstance(d, int) else a for a, d in zip(arguments, in_dims, strict=True)
        ]

    results = [function(*at(place)) for place in range(info.batch_size)]
    outputs = tuple(None if o[0] is None else torch.stack(o) for o in zip(*results, strict=True))
    return outputs, tuple(None if o is None else 0 for o in outputs)


def _backward_alone(options, needs, lengths, batch_sizes, _, *tensors) -> Any:
    """Where one forward call was made for all places: it is made again, for the reserve of this one."""
    *_, reserve = Layer.apply(options, False, True, lengths, batch_sizes, *tensors[4:])  # type: ignore[misc]
    return LayerBackward.apply(options, needs, lengths, batch_sizes, reserve, *tensors)


def _folded_backward(count: int, in_dims, options, needs, lengths, batch_sizes, reserve, *tensors) -> Any:
    axis = _batch_axis(batch_sizes, options)
    axes = [axis, 1, 1, axis, axis, 1, 1]
    folded = [_fold(t, dim, at, count) for t, dim, at in zip(tensors, in_dims[5:], axes, strict=False)]
    gradients = LayerBackward.apply(
        options, needs, _fold(lengths, in_dims[2], 0, count), _times(batch_sizes, count),
        _joined(reserve, in_dims[4], axis, count), *folded, *tensors[7:],
    )  # type: ignore[misc]  # fmt: skip
    unfolded = [_unfold(g, at, count) for g, at in zip(gradients, axes[4:], strict=False)]
    return tuple(zip(*unfolded, *[(None, None)] * len(tensors[7:]), strict=True))
