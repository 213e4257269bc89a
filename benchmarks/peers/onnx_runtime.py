"""ONNX Runtime, inference: one session on so many threads.

Its threads wait in a loop between calls; they are told to stop that at the end of each, so that they do not
take the other contestants' time.
"""

from collections.abc import Mapping

import onnxruntime  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from benchmarks.contest import Contest, Run, named_results
from benchmarks.grid import Kind, Shape
from benchmarks.peers import onnx_model


def refuses(kind: Kind, shape: Shape) -> str | None:
    return onnx_model.refuses(kind, shape)


def session(contest: Contest, threads: int) -> onnxruntime.InferenceSession:
    """The model of a contest, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = onnx_model.build(contest)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(contest: Contest, threads: int) -> Run:
    ready, feeds = session(contest, threads), onnx_model.feeds(contest)
    return lambda: ready.run(None, next(feeds))


def results(contest: Contest, threads: int) -> Mapping[str, Tensor]:
    arrays = session(contest, threads).run(None, onnx_model.feed(contest, contest.x, contest.hx))
    y, *state_n = [torch.as_tensor(array) for array in arrays]
    return named_results(y, state_n, {})
