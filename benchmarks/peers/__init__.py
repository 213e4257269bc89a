"""The peers: what somebody would use instead of our layers, one a file.

A peer's module has the functions of `Peer`. It is imported when it is first asked for: TensorFlow takes
seconds, and none of the peers but torch has to be installed.
"""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from benchmarks.contest import Contest, Run
from benchmarks.grid import Kind, Shape


class Peer(Protocol):
    """What the module of a peer offers."""

    def refuses(self, kind: Kind, shape: Shape) -> str | None:
        """Why the peer has no such layer; None if it has."""
        ...

    def run(self, contest: Contest, threads: int) -> Run:
        """What is timed: forward from zeros for a peer of inference, else a training step of the layer."""
        ...

    def results(self, contest: Contest, threads: int) -> Mapping[str, Tensor]:
        """Some of `Contest.results` from the peer, from the same random initial state: outputs at least."""
        ...


@dataclass(frozen=True)
class Entry:
    """Where a peer is found."""

    title: str
    module: str
    packages: tuple[str, ...]
    """The modules it needs, the one with the version first."""
    trains: bool
    """Compared in training, in a process of its own; else in inference, beside ours."""


PEERS = {
    "torch": Entry("torch.nn", "torch_nn", ("torch",), trains=False),
    "onnxruntime": Entry("ONNX Runtime", "onnx_runtime", ("onnxruntime", "onnx"), trains=False),
    "openvino": Entry("OpenVINO", "openvino_runtime", ("openvino", "onnx"), trains=False),
    "keras": Entry("Keras on TensorFlow", "keras_tensorflow", ("keras", "tensorflow"), trains=True),
    "jax": Entry("JAX", "jax_scan", ("jax",), trains=True),
}


def missing(name: str) -> list[str]:
    """The modules that a peer needs and that are not installed."""
    return [package for package in PEERS[name].packages if importlib.util.find_spec(package) is None]


def version(name: str) -> str:
    return importlib.metadata.version(PEERS[name].packages[0])


def load(name: str) -> Peer:
    """The peer's module; ImportError where it is not installed."""
    return cast(Peer, importlib.import_module(f"benchmarks.peers.{PEERS[name].module}"))
