"""The GRU of Cho et al. (2014), with the reset gate applied to the state before the recurrent product.

Forward, one step:

    a_r = W_ir @ x + b_ir + W_hr @ h' + b_hr    r = sigmoid(a_r)    reset gate
    a_z = W_iz @ x + b_iz + W_hz @ h' + b_hz    z = sigmoid(a_z)    update gate
    s   = r * h'                                                    the state that is let through
    a_n = W_in @ x + b_in + W_hn @ s + b_hn     n = tanh(a_n)       candidate
    h   = (1 - z) * n + z * h'

Backward, from the last step to the first; dh is what the step after, or the final state, sends back, plus
the gradient of y:

    da_n = dh * (1 - z) * (1 - n^2)
    da_z = dh * (h' - n) * z * (1 - z)
    ds   = W_hn^T @ da_n
    da_r = ds * h' * r * (1 - r)
    dh'  = dh * z + ds * r + W_hr^T @ da_r + W_hz^T @ da_z

and then, summed over all steps and rows, with da = (da_r, da_z, da_n), one below the other,

    dx    = W_ih^T @ da (of each step)
    dW_ih = da x^T,   db_ih = db_hh = da
    dW_hr = da_r h'^T,   dW_hz = da_z h'^T,   dW_hn = da_n s^T

Gates: r, z, n, H rows each (W_ih holds W_ir, W_iz, W_in, and so on); z near 1 keeps the old state.
Biases: two, so that the weights have the shapes of torch.nn.GRU's; only their sum matters.

Source: K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP (2014), equations 5 to 8, without biases there; W is our W_i., U our W_h., h~ our n.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from penstock.cells.base import Cell, State, Weights, before, bias_gradient, stack, weight_gradient


class Saved(NamedTuple):
    """What the backward pass needs: gates and h, each (T, B, H)."""

    r: Tensor
    z: Tensor
    n: Tensor
    h: Tensor


def _step(x: Tensor, state: State, weights: Weights) -> Saved:
    W_ih, W_hh, b_ih, b_hh, *_ = weights
    W_hr, W_hz, W_hn = W_hh.chunk(3)
    b_hr, b_hz, b_hn = (None, None, None) if b_hh is None else b_hh.chunk(3)
    (h,) = state
    x_r, x_z, x_n = linear(x, W_ih, b_ih).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + linear(h, W_hr, b_hr))
    z = torch.sigmoid(x_z + linear(h, W_hz, b_hz))
    s = r * h
    n = torch.tanh(x_n + linear(s, W_hn, b_hn))
    h = (1 - z) * n + z * h
    return Saved(r, z, n, h)


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
    W_hr, W_hz, W_hn = W_hh.chunk(3)
    (h_0,) = state
    h_before = before(h_0, saved.h)

    (dh,) = grad_state_n
    da_steps = []
    for t in reversed(range(len(x))):
        r, z, n = saved.r[t], saved.z[t], saved.n[t]
        dh = dh + grad_y[t]
        da_n = dh * (1 - z) * (1 - n**2)
        da_z = dh * (h_before[t] - n) * z * (1 - z)
        ds = da_n @ W_hn
        da_r = ds * h_before[t] * r * (1 - r)
        dh = dh * z + ds * r + da_r @ W_hr + da_z @ W_hz
        da_steps.append(torch.cat([da_r, da_z, da_n], dim=-1))

    da = torch.stack(da_steps[::-1])
    da_r, da_z, da_n = da.chunk(3, dim=-1)
    s = saved.r * h_before
    dW_hr, dW_hz = weight_gradient(da_r, h_before), weight_gradient(da_z, h_before)
    dW_hn = weight_gradient(da_n, s)
    grad_weights = Weights(
        weight_ih=weight_gradient(da, x),
        weight_hh=torch.cat([dW_hr, dW_hz, dW_hn]),
        bias_ih=bias_gradient(da, b_ih),
        bias_hh=bias_gradient(da, b_hh),
    )
    return da @ W_ih, (dh,), grad_weights


GRU_RESET_BEFORE = Cell(
    name="gru_reset_before",
    gates=("r", "z", "n"),
    state=("h",),
    step=step,
    forward=forward,
    backward=backward,
)
