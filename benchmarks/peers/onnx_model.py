"""Our layer as an ONNX model: a chain of RNN, LSTM or GRU operators.

Inputs x (T, B, D), h0 and for an LSTM c0 (L * directions, B, H), for a ragged batch lengths (B,) in int32;
outputs y (T, B, directions * H), h_n and c_n of the initial states' shapes. All sizes are fixed, but for the
time of a shape with a new length in every call.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from benchmarks.contest import Contest, State
from benchmarks.grid import Kind, Shape

OPSET = 17
IR_VERSION = 10
ORDER = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
"""Our gates in ONNX's order: i, o, f, c of i, f, g, o; z, r, h of r, z, n."""
PEEPHOLE_ORDER = [0, 2, 1]
"""i, o, f of i, f, o."""

Array = NDArray[np.float32]


def refuses(kind: Kind, shape: Shape) -> str | None:
    """What the operators of ONNX lack."""
    return "ONNX has no projection" if shape.proj else None


def build(contest: Contest) -> bytes:
    """The model with the weights of our layer."""
    kind, shape = contest.kind, contest.shape
    steps = "time" if shape.new_length else shape.T
    states = ["h", "c"][: len(contest.hx)]
    sizes = {"x": [steps, shape.B, shape.D], "y": [steps, shape.B, shape.directions * shape.H]}
    sizes |= {name: list(contest.hx[0].shape) for s in states for name in (f"{s}0", f"{s}_n")}
    inputs = [_value(name, sizes[name]) for name in ("x", *(f"{s}0" for s in states))]
    if shape.ragged:
        inputs.append(_value("lengths", [shape.B], TensorProto.INT32))
    outputs = [_value(name, sizes[name]) for name in ("y", *(f"{s}_n" for s in states))]
    nodes, constants = _nodes(kind, shape, states), _constants(contest)
    graph = helper.make_graph(nodes, "layer", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def feed(contest: Contest, x: Tensor, states: State) -> dict[str, NDArray]:
    """The inputs of the model. These libraries want x contiguous: a strided one is copied."""
    arrays = {"x": np.ascontiguousarray(x.numpy())}
    arrays |= {f"{name}0": state.numpy() for name, state in zip("hc", states, strict=False)}
    if contest.lengths is not None:
        arrays["lengths"] = contest.lengths.int().numpy()
    return arrays


def feeds(contest: Contest) -> Iterator[dict[str, NDArray]]:
    """The inputs of one call after another, made beforehand; but the copy of a strided x is made in each."""
    made = (feed(contest, x, contest.zeros) for x in contest.inputs())
    return made if contest.shape.strided else itertools.cycle(itertools.islice(made, contest.lengths_in_turn))


def _value(name: str, size: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, size)


def _nodes(kind: Kind, shape: Shape, states: list[str]) -> list[onnx.NodeProto]:
    """The layers one on another, the states of all layers cut apart before and joined after."""
    nodes = []
    if shape.L > 1:
        nodes += [_node("Split", [f"{s}0", "split"], _numbered(f"{s}0", shape.L), axis=0) for s in states]
    for l in range(shape.L):
        nodes += _layer(kind, shape, states, l)
    if shape.L > 1:
        nodes += [_node("Concat", _numbered(f"{s}_n", shape.L), [f"{s}_n"], axis=0) for s in states]
    return nodes


def _layer(kind: Kind, shape: Shape, states: list[str], l: int) -> list[onnx.NodeProto]:
    """One layer: y_{l}, (T, B, directions * H), of x or y_{l - 1}.

    The operator's own output has the directions before the rows.
    """
    several, last = shape.L > 1, l == shape.L - 1
    suffix = f"_{l}" if several else ""
    inputs = [f"y_{l - 1}" if l else "x", f"W_{l}", f"R_{l}", f"B_{l}", "lengths" if shape.ragged else ""]
    inputs += [f"{s}0{suffix}" for s in states] + [f"P_{l}"] * ("peephole" in kind.options)
    options = {"linear_before_reset": int(kind.cell == "gru")} if kind.layer == "GRU" else {}
    direction = "bidirectional" if shape.bidirectional else "forward"
    node = _node(
        kind.layer,
        inputs,
        [f"Y_{l}", *(f"{s}_n{suffix}" for s in states)],
        hidden_size=shape.H,
        direction=direction,
        **options,
    )
    y = "y" if last else f"y_{l}"
    if not shape.bidirectional:
        return [node, _node("Squeeze", [f"Y_{l}", "one"], [y])]
    turned = _node("Transpose", [f"Y_{l}"], [f"turned_{l}"], perm=[0, 2, 1, 3])
    return [node, turned, _node("Reshape", [f"turned_{l}", "flat"], [y])]


def _constants(contest: Contest) -> list[onnx.TensorProto]:
    shape = contest.shape
    constants: dict[str, NDArray] = {}
    if shape.L > 1:
        constants["split"] = np.array([shape.directions] * shape.L)
    if shape.bidirectional:
        constants["flat"] = np.array([0, 0, -1])
    else:
        constants["one"] = np.array([1])
    for l in range(shape.L):
        constants |= {f"{name}_{l}": value for name, value in _weights(contest, l).items()}
    return [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _weights(contest: Contest, l: int) -> dict[str, Array]:
    """W, R, B and P of a layer, (directions, ...)."""
    order = ORDER[contest.kind.layer]
    named = {name: p.detach() for name, p in contest.ours.named_parameters()}
    suffixes = [f"_l{l}{direction}" for direction in ["", "_reverse"][: contest.shape.directions]]

    def ordered(name: str, order: list[int]) -> Array:
        weights = [named[f"{name}{suffix}"] for suffix in suffixes]
        return np.stack([_reordered(w, order) for w in weights])

    biases = [ordered(name, order) for name in ("bias_ih", "bias_hh")]
    weights = {"W": ordered("weight_ih", order), "R": ordered("weight_hh", order)}
    weights["B"] = np.concatenate(biases, axis=1)
    if "peephole" in contest.kind.options:
        weights["P"] = ordered("weight_peephole", PEEPHOLE_ORDER)
    return weights


def _reordered(weight: Tensor, order: list[int]) -> Array:
    parts = weight.numpy().reshape(len(order), -1, *weight.shape[1:])
    return parts[order].reshape(weight.shape)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{l}" for l in range(count)]


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)
