"""The GRU with the reset gate applied after the recurrent product, as in torch and cuDNN.

Forward, one step:

    a_r = W_ir @ x + b_ir + W_hr @ h' + b_hr    r = sigmoid(a_r)    reset gate
    a_z = W_iz @ x + b_iz + W_hz @ h' + b_hz    z = sigmoid(a_z)    update gate
    q   = W_hn @ h' + b_hn                                          what the reset gate lets through
    a_n = W_in @ x + b_in + r * q               n = tanh(a_n)       candidate
    h   = (1 - z) * n + z * h'

Backward, from the last step to the first; dh is what the step after, or the final state, sends back, plus
the gradient of y:

    da_n = dh * (1 - z) * (1 - n^2)
    da_z = dh * (h' - n) * z * (1 - z)
    da_r = da_n * q * r * (1 - r)
    dq   = da_n * r
    dh'  = dh * z + W_hh^T @ db                 db = (da_r, da_z, dq), one below the other

and then, summed over all steps and rows, with da = (da_r, da_z, da_n),

    dx    = W_ih^T @ da (of each step)
    dW_ih = da x^T,   dW_hh = db h'^T,   db_ih = da,   db_hh = db

Gates: r, z, n, H rows each (W_ih holds W_ir, W_iz, W_in, and so on); z near 1 keeps the old state.
Biases: two, as in torch and cuDNN; for r and z only their sum matters, while b_hn lies inside the reset
and b_in outside.

Sources: these equations are those of CUDNN_GRU in cuDNN and of torch.nn.GRU. They change the unit of K.
Cho et al. (2014), see gru_reset_before.py, so that one product gives all that comes from h'.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from penstock.cells.base import Cell, State, Weights, before, bias_gradient, stack, weight_gradient


class Saved(NamedTuple):
    """What the backward pass needs: gates, q and h, each (T, B, H)."""

    r: Tensor
    z: Tensor
    n: Tensor
    q: Tensor
    h: Tensor


def _step(x: Tensor, state: State, weights: Weights) -> Saved:
    W_ih, W_hh, b_ih, b_hh, *_ = weights
    (h,) = state
    x_r, x_z, x_n = linear(x, W_ih, b_ih).chunk(3, dim=-1)
    h_r, h_z, q = linear(h, W_hh, b_hh).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    z = torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * q)
    h = (1 - z) * n + z * h
    return Saved(r, z, n, q, h)


def step(x: Tensor, state: State, weights: Weights) -> State:
    """One step: x (B, D) and (h,) with h (B, H) to the new (h,)."""
    return (_step(x, state, weights).h,)


def forward(x: Tensor, state: State, weights: Weights) -> tuple[Tensor, State, Saved]:
    """The whole sequence: x (T, B, D) and (h,) to y (T, B, H), the final (h,), and what backward needs."""
    records = []
    for x_t in x:
        new = _step(x_t, state, weights)
        state = (new.h,)
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
    """The gradients of x, of the initial (h,) and of the weights."""
    W_ih, W_hh, b_ih, b_hh, *_ = weights
    (h_0,) = state
    h_before = before(h_0, saved.h)

    (dh,) = grad_state_n
    da_steps, db_steps = [], []
    for t in reversed(range(len(x))):
        r, z, n, q = saved.r[t], saved.z[t], saved.n[t], saved.q[t]
        dh = dh + grad_y[t]
        da_n = dh * (1 - z) * (1 - n**2)
        da_z = dh * (h_before[t] - n) * z * (1 - z)
        da_r = da_n * q * r * (1 - r)
        dq = da_n * r
        db = torch.cat([da_r, da_z, dq], dim=-1)
        dh = dh * z + db @ W_hh
        da_steps.append(torch.cat([da_r, da_z, da_n], dim=-1))
        db_steps.append(db)

    da, db = torch.stack(da_steps[::-1]), torch.stack(db_steps[::-1])
    grad_weights = Weights(
        weight_ih=weight_gradient(da, x),
        weight_hh=weight_gradient(db, h_before),
        bias_ih=bias_gradient(da, b_ih),
        bias_hh=bias_gradient(db, b_hh),
    )
    return da @ W_ih, (dh,), grad_weights


GRU = Cell(
    name="gru",
    gates=("r", "z", "n"),
    state=("h",),
    step=step,
    forward=forward,
    backward=backward,
)
