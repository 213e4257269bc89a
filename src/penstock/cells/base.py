"""What every cell shares: its weights, its description, and the plain loop over its step.

Dimensions, the same letters throughout the package:

    T  time steps          D  input size              G  gates of the cell
    B  rows of a batch     H  hidden size             L  layers
    P  projected size      R  size of the output h: P with a projection, H without

Sequences are time major, (T, B, size). A state is a tuple in the order of `Cell.state`: `(h,)` or `(h, c)`.
In the equations of the cells `'` marks the step before (h' is h at t-1), `*` multiplies element by element,
`W @ x` is matrix times vector, and `dv` is the derivative of the loss with respect to `v`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """The parameters of one layer in one direction, or their gradients; an absent one is None.

    The gates lie one below the other in the order of `Cell.gates`, as in torch and cuDNN.
    """

    weight_ih: Tensor
    """(G*H, D), applied to the input."""
    weight_hh: Tensor
    """(G*H, R), applied to the h of the step before."""
    bias_ih: Tensor | None = None
    """(G*H,), added to the input product."""
    bias_hh: Tensor | None = None
    """(G*H,), added to the recurrent product."""
    weight_hr: Tensor | None = None
    """(P, H), the projection of the LSTM's output."""
    weight_peephole: Tensor | None = None
    """(3*H,), the diagonals from the cell state to the LSTM's input, forget and output gate."""


@dataclass(frozen=True)
class Cell:
    """A recurrent cell: its names and its mathematics, on any device and floating dtype.

    `step(x, state, weights) -> state`
        one step under autograd, x (B, D).
    `forward(x, state, weights) -> (y, state_n, saved)`
        a whole sequence, x (T, B, D) with T > 0, y (T, B, R); `saved` is what backward needs, a named tuple
        of (T, B, ...) tensors, among them the cell state of every step, `saved.c`, where there is one.
    `backward(grad_y, grad_state_n, grad_c_steps, x, state, weights, saved)
    -> (grad_x, grad_state, grad_weights)`
        back-propagation through time derived by hand, without autograd, from the gradients of all that
        forward gives; `grad_c_steps` (T, B, H) belongs to the cell state of every step and is None without
        one. A gradient in `grad_weights` is None where the weight is.
    """

    name: str
    gates: tuple[str, ...]
    state: tuple[str, ...]
    step: Callable[[Tensor, State, Weights], State]
    forward: Callable[[Tensor, State, Weights], tuple[Tensor, State, Any]]
    backward: Callable[
        [Tensor, State, Tensor | None, Tensor, State, Weights, Any], tuple[Tensor, State, Weights]
    ]


def unroll(
    cell: Cell,
    x: Tensor,
    state: State,
    weights: Weights,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, State, Tensor | None]:
    """Run `cell.step` over a sequence, one step after the other, under autograd.

    x: (T, B, D), T may be 0. lengths: int64 (B,), each from 0 to T; row b is active at the steps below
    lengths[b]. A row that is not active keeps its state and puts out zeros, and what x holds there has no
    influence. With `reverse` t runs from T-1 down to 0, so that a row starts at its own last step.

    Returns y (T, B, R), the state after each row's last step, and the cell state of every step (T, B, H), or
    None for a cell without one.
    """
    T = len(x)
    active = None
    if lengths is not None:
        active = (torch.arange(T, device=x.device)[:, None] < lengths.to(x.device)).unsqueeze(-1)  # (T, B, 1)
        x = x.where(active, 0)  # a NaN in the padding would reach the weight gradients as 0 * NaN

    steps = []
    for t in reversed(range(T)) if reverse else range(T):
        new = cell.step(x[t], state, weights)
        if active is None:
            state = new
        else:
            state = tuple(n.where(active[t], s) for n, s in zip(new, state, strict=True))
            new = tuple(n.where(active[t], 0) for n in new)
        steps.append(new)
    if reverse:
        steps.reverse()

    if steps:
        outputs = [torch.stack(o) for o in zip(*steps, strict=True)]
    else:
        outputs = [s.new_zeros(0, *s.shape) for s in state]
    return outputs[0], state, outputs[1] if len(outputs) > 1 else None


def stack(records: list[Any]) -> Any:
    """Named tuples of (B, ...) tensors, one a step, as one named tuple of (T, B, ...) tensors."""
    return type(records[0])(*(torch.stack(field) for field in zip(*records, strict=True)))


def before(first: Tensor, states: Tensor) -> Tensor:
    """The state each step started from: `first` (B, H), then all of `states` (T, B, H) but the last."""
    return torch.cat([first[None], states[:-1]])


def weight_gradient(da: Tensor, x: Tensor) -> Tensor:
    """The gradient of W in a = W @ x, summed over steps and rows: da (T, B, G*H), x (T, B, D) -> (G*H, D)."""
    return da.flatten(0, 1).T @ x.flatten(0, 1)


def bias_gradient(da: Tensor, bias: Tensor | None) -> Tensor | None:
    """The gradient of b in a = W @ x + b, summed over steps and rows, (G*H,); None without b."""
    return None if bias is None else da.sum((0, 1))
