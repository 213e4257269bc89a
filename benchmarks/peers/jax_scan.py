"""JAX, training: the cells written with lax.scan as one would, differentiated and compiled by XLA.

The input product of all steps stands before the scan. To be imported in a process of its own
(`benchmarks.child`): XLA takes as many threads as the process has cores when it starts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from jax import Array  # pyright: ignore[reportMissingImports]
from torch import Tensor

from benchmarks.contest import Contest, Run, named_results
from benchmarks.grid import Kind, Shape

Parameters = dict[str, Array]
Carry = tuple[Array, ...]


def refuses(kind: Kind, shape: Shape) -> str | None:
    return None if shape.is_plain else "JAX is compared in plain layers only"


def run(contest: Contest, threads: int) -> Run:
    step, inputs = _training(CELLS[contest.kind.name]), _inputs(contest, contest.zeros)
    grad_y = _jax(contest.grad_y)
    return lambda: jax.block_until_ready(step(*inputs, grad_y))


def results(contest: Contest, threads: int) -> Mapping[str, Tensor]:
    parameters, x, states = _inputs(contest, contest.hx)
    (y, state_n), back = jax.vjp(_scan(CELLS[contest.kind.name]), parameters, x, states)
    grad_state = tuple(_jax(g[0]) for g in contest.grad_state)
    weights, d_x, d_states = back((_jax(contest.grad_y), grad_state))
    gradients = {"x": _torch(d_x)} | {f"state {k}": _torch(d)[None] for k, d in enumerate(d_states)}
    gradients |= {f"{name}_l0": _torch(d) for name, d in weights.items()}
    return named_results(_torch(y), [_torch(s)[None] for s in state_n], gradients)


def _training(cell: "Cell") -> Callable[..., Any]:
    """The compiled function from (parameters, x, states, grad_y) to the gradients of parameters and x."""

    @jax.jit
    def step(parameters: Parameters, x: Array, states: Carry, grad_y: Array) -> Any:
        def output(parameters: Parameters, x: Array) -> Array:
            return _scan(cell)(parameters, x, states)[0]

        return jax.vjp(output, parameters, x)[1](grad_y)

    return step


Cell = Callable[[Array, Carry, Parameters], Carry]
"""(input product of one step (B, G * H), state, parameters) to the new state, h first."""


def _scan(cell: Cell) -> Callable[[Parameters, Array, Carry], tuple[Array, Carry]]:
    def layer(parameters: Parameters, x: Array, states: Carry) -> tuple[Array, Carry]:
        products = x @ parameters["weight_ih"].T + parameters["bias_ih"]

        def step(state: Carry, product: Array) -> tuple[Carry, Array]:
            state = cell(product, state, parameters)
            return state, state[0]

        state_n, y = jax.lax.scan(step, states, products)
        return y, state_n

    return layer


def _hidden_product(h: Array, p: Parameters) -> Array:
    return h @ p["weight_hh"].T + p["bias_hh"]


def _rnn(product: Array, state: Carry, p: Parameters) -> Carry:
    return (jnp.tanh(product + _hidden_product(state[0], p)),)


def _lstm(product: Array, state: Carry, p: Parameters) -> Carry:
    h, c = state
    i, f, g, o = jnp.split(product + _hidden_product(h, p), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _peephole(product: Array, state: Carry, p: Parameters) -> Carry:
    h, c = state
    p_i, p_f, p_o = jnp.split(p["weight_peephole"], 3)
    i, f, g, o = jnp.split(product + _hidden_product(h, p), 4, axis=-1)
    c = jax.nn.sigmoid(f + p_f * c) * c + jax.nn.sigmoid(i + p_i * c) * jnp.tanh(g)
    return jax.nn.sigmoid(o + p_o * c) * jnp.tanh(c), c


def _gru(product: Array, state: Carry, p: Parameters) -> Carry:
    (h,) = state
    x_r, x_z, x_n = jnp.split(product, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(_hidden_product(h, p), 3, axis=-1)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * h_n)
    return ((1 - z) * n + z * h,)


def _gru_reset_before(product: Array, state: Carry, p: Parameters) -> Carry:
    (h,) = state
    H = h.shape[-1]
    x_r, x_z, x_n = jnp.split(product, 3, axis=-1)
    gates = h @ p["weight_hh"][: 2 * H].T + p["bias_hh"][: 2 * H]
    r, z = jnp.split(jax.nn.sigmoid(jnp.concatenate([x_r, x_z], axis=-1) + gates), 2, axis=-1)
    n = jnp.tanh(x_n + (r * h) @ p["weight_hh"][2 * H :].T + p["bias_hh"][2 * H :])
    return ((1 - z) * n + z * h,)


CELLS: dict[str, Cell] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "lstm-peephole": _peephole,
    "gru": _gru,
    "gru-reset-before": _gru_reset_before,
}


def _inputs(contest: Contest, states: tuple[Tensor, ...]) -> tuple[Parameters, Array, Carry]:
    parameters = {name.removesuffix("_l0"): _jax(p.detach()) for name, p in contest.ours.named_parameters()}
    return parameters, _jax(contest.x), tuple(_jax(s[0]) for s in states)


def _jax(tensor: Tensor) -> Array:
    return jnp.asarray(np.ascontiguousarray(tensor.numpy()))


def _torch(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array))
