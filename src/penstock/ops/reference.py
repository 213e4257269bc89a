"""A whole layer step by step on `penstock.cells`: for the tensors and derivatives that the kernels lack.

It is made of differentiable torch operators only, so every transform of torch applies to it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from penstock.cells import CELLS, Weights, unroll
from penstock.ops.kernel import Options, sizes


def layer(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """y, h_n, c_n and the cell states, laid out as the kernels' (ops/kernel.py)."""
    if batch_sizes is not None:
        return _packed_layer(x, h0, c0, weights, batch_sizes, options)
    cell, by_direction = CELLS[options.cell], directions(weights, options.directions)
    hidden, output, batch = sizes(x, h0, weights, None, options)
    given = (
        s if s is not None else x.new_zeros(len(by_direction), batch, size)
        for s, size in zip((h0, c0), (output, hidden), strict=True)
    )
    state = tuple(given)[: len(cell.state)]
    steps = x.transpose(0, 1) if options.batch_first else x
    runs = [
        unroll(cell, steps, tuple(s[d] for s in state), w, lengths=lengths, reverse=d == 1)
        for d, w in enumerate(by_direction)
    ]
    ys, finals, cells = zip(*runs, strict=True)
    finals = [torch.stack(s) for s in zip(*finals, strict=True)]
    y = torch.cat(ys, -1)
    c_steps = torch.cat(cells, -1) if len(finals) > 1 else None
    if options.batch_first:
        y, c_steps = y.transpose(0, 1), c_steps if c_steps is None else c_steps.transpose(0, 1)
    return y, finals[0], finals[1] if len(finals) > 1 else None, c_steps


def _packed_layer(x, h0, c0, weights, batch_sizes: Tensor, options: Options):
    """Padded, run, and packed again, by index: torch's functions for packing cannot be transformed."""
    steps, batch = len(batch_sizes), int(batch_sizes[0])
    running = torch.arange(batch) < batch_sizes[:, None]
    places = running.flatten().nonzero().squeeze(1).to(x.device)
    padded = x.new_zeros(steps * batch, x.shape[-1]).index_copy(0, places, x)
    y, h_n, c_n, c_steps = layer(
        padded.unflatten(0, (steps, batch)), h0, c0, weights, running.sum(0), None,
        options._replace(batch_first=False),
    )  # fmt: skip
    y = y.flatten(0, 1).index_select(0, places)
    return y, h_n, c_n, c_steps if c_steps is None else c_steps.flatten(0, 1).index_select(0, places)


def directions(flat: Sequence[Tensor], count: int) -> list[Weights]:
    """The flat list of weights as one `Weights` a direction. A vector beside the two biases is a peephole."""
    each = len(flat) // count
    return [_named(flat[d * each : (d + 1) * each]) for d in range(count)]


def _named(weights: Sequence[Tensor]) -> Weights:
    rest = list(weights[2:])
    biases = (rest.pop(0), rest.pop(0)) if [w.dim() for w in rest[:2]] == [1, 1] else (None, None)
    projection = rest.pop(0) if rest and rest[0].dim() == 2 else None
    peephole = rest.pop(0) if rest else None
    return Weights(weights[0], weights[1], *biases, projection, peephole)


# ---- derivatives -------------------------------------------------------------------------------------------

Tensors = Sequence[Tensor | None]


def gradients(
    d_outputs: Tensors, inputs: Tensors, lengths: Tensor | None, batch_sizes: Tensor | None, options: Options
) -> list[Tensor | None]:
    """What the kernels' backward pass computes, for all inputs that are given.

    d_outputs: of y, h_n, c_n and the cell states; None is zeros. inputs: x, h0, c0, *weights.
    """

    def outputs(given: list[Tensor]) -> list[Tensor]:
        x, h0, c0, *weights = _filled(given, inputs)
        results = layer(x, h0, c0, weights, lengths, batch_sizes, options)  # type: ignore[arg-type]
        return [r for r, d in zip(results, d_outputs, strict=True) if r is not None and d is not None]

    pull_back = torch.func.vjp(outputs, _given(inputs))[1]
    return _filled(pull_back(_given(d_outputs))[0], inputs)


def second_gradients(
    d_gradients: Tensors,
    d_outputs: Tensors,
    inputs: Tensors,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    options: Options,
) -> list[Tensor | None]:
    """The gradients of `d_outputs` and of `inputs` from those of what `gradients` gives; None is zeros."""

    def first(d_given: list[Tensor], given: list[Tensor]) -> list[Tensor]:
        return _given(
            gradients(_filled(d_given, d_outputs), _filled(given, inputs), lengths, batch_sizes, options)
        )

    pull_back = torch.func.vjp(first, _given(d_outputs), _given(inputs))[1]
    d_first = [
        torch.zeros_like(t) if d is None else d
        for d, t in zip(d_gradients, inputs, strict=True)
        if t is not None
    ]
    d_again, again = pull_back(d_first)
    return [*_filled(d_again, d_outputs), *_filled(again, inputs)]


def _given(tensors: Tensors) -> list[Tensor]:
    return [t for t in tensors if t is not None]


def _filled(given: Sequence[Tensor], places: Tensors) -> list[Tensor | None]:
    """`given` in the places that are not None."""
    rest = iter(given)
    return [None if p is None else next(rest) for p in places]
