"""The LSTM, plain, with peepholes and with projection, in one set of equations.

Forward, one step; without peepholes p_i = p_f = p_o = 0, without projection h = m:

    a_i = W_ii @ x + b_ii + W_hi @ h' + b_hi + p_i * c'     i = sigmoid(a_i)    input gate
    a_f = W_if @ x + b_if + W_hf @ h' + b_hf + p_f * c'     f = sigmoid(a_f)    forget gate
    a_g = W_ig @ x + b_ig + W_hg @ h' + b_hg                g = tanh(a_g)       cell input
    c   = f * c' + i * g                                                        cell state
    a_o = W_io @ x + b_io + W_ho @ h' + b_ho + p_o * c      o = sigmoid(a_o)    output gate
    m   = o * tanh(c)                                                           cell output
    h   = W_hr @ m                                                              projected output

Backward, from the last step to the first; dh and dc are what the step after, or the final state, sends back,
plus the gradients of this step's outputs, y and the cell state:

    dm   = W_hr^T @ dh
    da_o = dm * tanh(c) * o * (1 - o)
    dc   = dc + dm * o * (1 - tanh(c)^2) + da_o * p_o
    da_i = dc * g  * i * (1 - i)
    da_f = dc * c' * f * (1 - f)
    da_g = dc * i  * (1 - g^2)
    dh'  = W_hh^T @ da                          da = (da_i, da_f, da_g, da_o), one below the other
    dc'  = dc * f + da_i * p_i + da_f * p_f

and then, summed over all steps and rows,

    dx    = W_ih^T @ da (of each step)
    dW_ih = da x^T,   dW_hh = da h'^T,   db_ih = db_hh = da,   dW_hr = dh m^T
    dp_i  = da_i * c',   dp_f = da_f * c',   dp_o = da_o * c

Gates: i, f, g, o, H rows each (W_ih holds W_ii, W_if, W_ig, W_io, and so on). Biases: two, as in torch
and cuDNN; only their sum matters. Peepholes: diagonal, one weight a unit; `weight_peephole` holds p_i,
p_f, p_o.

Sources: the cell with gates i and o, S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", Neural
Computation 9 (1997); gate f, F. Gers, J. Schmidhuber and F. Cummins, "Learning to Forget", Neural
Computation 12 (2000); peepholes, F. Gers and J. Schmidhuber, "Recurrent Nets that Time and Count", IJCNN
(2000). All of it with the whole gradient, as here: A. Graves, "Supervised Sequence Labelling with
Recurrent Neural Networks", Springer (2012), chapter 4, network equations, whose f, g and h are our
sigmoid, tanh and tanh. Projection: H. Sak, A. Senior and F. Beaufays, "Long Short-Term Memory Recurrent
Neural Network Architectures for Large Scale Acoustic Modeling", Interspeech (2014), whose r is our h,
without their second, non-recurrent projection. The equations with two biases and h = W_hr @ m are those
of torch.nn.LSTM.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from penstock.cells.base import Cell, State, Weights, before, bias_gradient, stack, weight_gradient


class Saved(NamedTuple):
    """What the backward pass needs: gates and cell state (T, B, H), output h (T, B, R)."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    h: Tensor


def _step(x: Tensor, state: State, weights: Weights) -> Saved:
    W_ih, W_hh, b_ih, b_hh, W_hr, p = weights
    p_i, p_f, p_o = (0, 0, 0) if p is None else p.chunk(3)
    h, c = state
    a_i, a_f, a_g, a_o = (linear(x, W_ih, b_ih) + linear(h, W_hh, b_hh)).chunk(4, dim=-1)
    i = torch.sigmoid(a_i + p_i * c)
    f = torch.sigmoid(a_f + p_f * c)
    g = torch.tanh(a_g)
    c = f * c + i * g
    o = torch.sigmoid(a_o + p_o * c)
    m = o * torch.tanh(c)
    h = m if W_hr is None else linear(m, W_hr)
    return Saved(i, f, g, o, c, h)


def step(x: Tensor, state: State, weights: Weights) -> State:
    """One step: x (B, D) and (h, c) with h (B, R), c (B, H) to the new (h, c)."""
    new = _step(x, state, weights)
    return new.h, new.c


def forward(x: Tensor, state: State, weights: Weights) -> tuple[Tensor, State, Saved]:
    """The whole sequence: x (T, B, D) and (h, c) to y (T, B, R), the final (h, c) and what backward needs."""
    records = []
    for x_t in x:
        new = _step(x_t, state, weights)
        state = (new.h, new.c)
        records.append(new)
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
) -> tuple[Tensor, State, Weights]:
    """The gradients of x, of the initial (h, c) and of the weights."""
    W_ih, W_hh, b_ih, b_hh, W_hr, p = weights
    p_i, p_f, p_o = (0, 0, 0) if p is None else p.chunk(3)
    h_0, c_0 = state
    h_before, c_before = before(h_0, saved.h), before(c_0, saved.c)
    tanh_c = torch.tanh(saved.c)

    dh, dc = grad_state_n
    da_steps, dh_steps = [], []
    for t in reversed(range(len(x))):
        i, f, g, o = saved.i[t], saved.f[t], saved.g[t], saved.o[t]
        dh = dh + grad_y[t]
        dc = dc if grad_c_steps is None else dc + grad_c_steps[t]
        dh_steps.append(dh)

        dm = dh if W_hr is None else dh @ W_hr
        da_o = dm * tanh_c[t] * o * (1 - o)
        dc = dc + dm * o * (1 - tanh_c[t] ** 2) + da_o * p_o
        da_i = dc * g * i * (1 - i)
        da_f = dc * c_before[t] * f * (1 - f)
        da_g = dc * i * (1 - g**2)
        da = torch.cat([da_i, da_f, da_g, da_o], dim=-1)
        dh = da @ W_hh
        dc = dc * f + da_i * p_i + da_f * p_f
        da_steps.append(da)

    da, dh_steps = torch.stack(da_steps[::-1]), torch.stack(dh_steps[::-1])
    da_i, da_f, _, da_o = da.chunk(4, dim=-1)
    m = saved.o * tanh_c
    dp = torch.cat([da_i * c_before, da_f * c_before, da_o * saved.c], dim=-1).sum((0, 1))
    grad_weights = Weights(
        weight_ih=weight_gradient(da, x),
        weight_hh=weight_gradient(da, h_before),
        bias_ih=bias_gradient(da, b_ih),
        bias_hh=bias_gradient(da, b_hh),
        weight_hr=None if W_hr is None else weight_gradient(dh_steps, m),
        weight_peephole=None if p is None else dp,
    )
    return da @ W_ih, (dh, dc), grad_weights


LSTM = Cell(
    name="lstm",
    gates=("i", "f", "g", "o"),
    state=("h", "c"),
    step=step,
    forward=forward,
    backward=backward,
)
