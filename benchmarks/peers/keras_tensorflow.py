"""Keras on TensorFlow, training: forward and backward of its layer in one tf.function.

To be imported in a process of its own (`benchmarks.child`), before TensorFlow has started its threads.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # pyright: ignore[reportMissingImports]
import numpy as np
import tensorflow as tf  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, named_results
from benchmarks.grid import Kind, Shape

CLASSES: dict[str, str] = {"RNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU"}
ORDER = {"RNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}
"""Our gates in Keras's order: i, f, c, o; z, r, h of r, z, n."""

Step = Callable[[], tuple[list[Any], list[Any]]]
"""() -> (y and the final states, the gradients of x, of the initial states and of the weights)."""


def refuses(kind: Kind, shape: Shape) -> str | None:
    if kind.options.get("peephole"):
        return "Keras has no peepholes"
    return None if shape.is_plain else "Keras is compared in plain layers only"


def run(contest: Contest, threads: int) -> Run:
    return _step(contest, _layer(contest, threads), contest.zeros)


def results(contest: Contest, threads: int) -> Mapping[str, Tensor]:
    """Without the gradients of the weights, which are laid out in another way."""
    outputs, gradients = _step(contest, _layer(contest, threads), contest.hx)()
    y, *state_n = [_torch(t) for t in outputs]
    d_x, *d_states = [_torch(t) for t in gradients[: len(outputs)]]
    named = {"x": d_x.transpose(0, 1)} | {f"state {k}": d[None] for k, d in enumerate(d_states)}
    return named_results(y.transpose(0, 1), [s[None] for s in state_n], named)


def _layer(contest: Contest, threads: int) -> Any:
    """Keras's layer with the weights of ours."""
    _use_threads(threads)
    kind, shape = contest.kind, contest.shape
    options = {"reset_after": kind.cell == "gru"} if kind.layer == "GRU" else {}
    layer = getattr(keras.layers, CLASSES[kind.layer])(
        shape.H, return_sequences=True, return_state=True, **options
    )
    layer.build((shape.B, shape.T, shape.D))
    named = {name: _reordered(p.detach().numpy(), kind) for name, p in contest.ours.named_parameters()}
    biases = [named["bias_ih_l0"], named["bias_hh_l0"]]
    bias = np.stack(biases) if options.get("reset_after") else sum(biases)
    layer.set_weights([named["weight_ih_l0"].T, named["weight_hh_l0"].T, bias])
    return layer


def _use_threads(threads: int) -> None:
    """Before the first operation only; later TensorFlow refuses another number."""
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def _step(contest: Contest, layer: Any, states: tuple[Tensor, ...]) -> Step:
    """One call of the compiled training step; `states` are the initial ones."""
    x = tf.constant(contest.x.transpose(0, 1).numpy())
    initial = [tf.constant(s[0].numpy()) for s in states]
    grads = [tf.constant(contest.grad_y.transpose(0, 1).numpy())]
    # As in a training step of ours from zeros, nothing comes from the final state.
    grads += [tf.constant(g[0].numpy()) for g in contest.grad_state] if states is contest.hx else []

    @tf.function
    def step(x: Any, initial: Any, grads: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, *initial])
            outputs = layer(x, initial_state=initial)
        wanted = [x, *(initial if states is contest.hx else []), *layer.trainable_variables]
        return outputs, tape.gradient(outputs[: len(grads)], wanted, output_gradients=grads)

    return lambda: step(x, initial, grads)


def _reordered(weight: np.ndarray, kind: Kind) -> np.ndarray:
    order = ORDER[kind.layer]
    return weight.reshape(len(order), -1, *weight.shape[1:])[order].reshape(weight.shape)


def _torch(tensor: Any) -> Tensor:
    return torch.from_numpy(tensor.numpy())
