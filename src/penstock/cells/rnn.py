"""The simple recurrent network (Elman 1990), with tanh or relu.

Forward, one step:

    a = W_ih @ x + b_ih + W_hh @ h' + b_hh
    h = f(a)                                    f = tanh or relu

Backward, from the last step to the first; dh is what the step after, or the final state, sends back, plus
the gradient of y:

    da  = dh * df                               df = 1 - h^2 for tanh; for relu 1 where h > 0, else 0
    dh' = W_hh^T @ da

and then, summed over all steps and rows,

    dx    = W_ih^T @ da (of each step)
    dW_ih = da x^T,   dW_hh = da h'^T,   db_ih = db_hh = da

Gates: one (h), H rows. Biases: two, as in torch and cuDNN; only their sum matters.

Sources: J. L. Elman, "Finding Structure in Time", Cognitive Science 14 (1990), who gives the network as a
drawing (the hidden units see the input and a copy of what they were a step before); the equation with two
biases is that of torch.nn.RNN. Backward: P. J. Werbos, "Backpropagation Through Time: What It Does and
How to Do It", Proceedings of the IEEE 78 (1990).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from penstock.cells.base import Cell, State, Weights, before, bias_gradient, stack, weight_gradient

Function = Callable[[Tensor], Tensor]


class Saved(NamedTuple):
    """What the backward pass needs: h (T, B, H)."""

    h: Tensor


def step(x: Tensor, state: State, weights: Weights, f: Function) -> State:
    """One step: x (B, D) and (h,) with h (B, H) to the new (h,)."""
    W_ih, W_hh, b_ih, b_hh, *_ = weights
    (h,) = state
    a = linear(x, W_ih, b_ih) + linear(h, W_hh, b_hh)
    return (f(a),)


def forward(x: Tensor, state: State, weights: Weights, f: Function) -> tuple[Tensor, State, Saved]:
    """The whole sequence: x (T, B, D) and (h,) to y (T, B, H), the final (h,), and what backward needs."""
    records = []
    for x_t in x:
        state = step(x_t, state, weights, f)
        records.append(Saved(*state))
    saved = stack(records)
    return saved.h, state, saved


def backward(
    grad_y: Tensor,
    grad_state_n: State,
    grad_c_steps: Tensor | None,
    x: Tensor,
    state: State,
    weights: Weights,
    saved: Saved,
    df: Function,
) -> tuple[Tensor, State, Weights]:
    """The gradients of x, of the initial (h,) and of the weights; `df` is the derivative of f given h."""
    W_ih, W_hh, b_ih, b_hh, *_ = weights
    (dh,) = grad_state_n
    (h_0,) = state

    da = torch.empty_like(saved.h)
    for t in reversed(range(len(x))):
        dh = dh + grad_y[t]
        da[t] = dh * df(saved.h[t])
        dh = da[t] @ W_hh

    grad_weights = Weights(
        weight_ih=weight_gradient(da, x),
        weight_hh=weight_gradient(da, before(h_0, saved.h)),
        bias_ih=bias_gradient(da, b_ih),
        bias_hh=bias_gradient(da, b_hh),
    )
    return da @ W_ih, (dh,), grad_weights


def _cell(name: str, f: Function, df: Function) -> Cell:
    return Cell(
        name=name,
        gates=("h",),
        state=("h",),
        step=partial(step, f=f),
        forward=partial(forward, f=f),
        backward=partial(backward, df=df),
    )


RNN_TANH = _cell("rnn_tanh", f=torch.tanh, df=lambda h: 1 - h**2)
RNN_RELU = _cell("rnn_relu", f=torch.relu, df=lambda h: (h > 0).to(h.dtype))
