"""OpenVINO, inference: the same ONNX model, compiled for latency on so many threads, in float32.

Float32 has to be asked for: on CPUs with bfloat16 matrix units OpenVINO would compute in bfloat16.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import openvino  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, named_results
from benchmarks.grid import Kind, Shape
from benchmarks.peers import onnx_model


def refuses(kind: Kind, shape: Shape) -> str | None:
    if kind.options.get("peephole"):
        return "OpenVINO leaves the peepholes out"
    return onnx_model.refuses(kind, shape)


@cache
def _core() -> Any:
    return openvino.Core()


def request(contest: Contest, threads: int) -> Any:
    """The model of a contest, ready to run."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = _core().read_model(onnx_model.build(contest))
    return _core().compile_model(model, "CPU", settings).create_infer_request()


def run(contest: Contest, threads: int) -> Run:
    ready, feeds = request(contest, threads), onnx_model.feeds(contest)
    return lambda: ready.infer(next(feeds), share_inputs=True, share_outputs=True)


def results(contest: Contest, threads: int) -> Mapping[str, Tensor]:
    inputs = onnx_model.feed(contest, contest.x, contest.hx)
    arrays = request(contest, threads).infer(inputs, share_inputs=True)
    y, *state_n = [torch.from_numpy(array) for array in arrays.to_tuple()]
    return named_results(y, state_n, {})
