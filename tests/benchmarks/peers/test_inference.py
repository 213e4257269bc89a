"""The peers of inference compute what torch computes, and say what they lack."""

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.contest import Contest
from benchmarks.gate import peer_failures
from benchmarks.grid import KINDS, Shape
from benchmarks.peers import Peer

SHAPES = [
    Shape(3, 5, 4, 7),
    Shape(3, 5, 4, 7, ragged=True),
    Shape(3, 5, 4, 7, strided=True),
    Shape(3, 9, 4, 7, new_length=True),
    Shape(3, 5, 4, 7, bidirectional=True),
    Shape(3, 5, 4, 7, L=2),
    Shape(3, 5, 4, 7, L=2, bidirectional=True, ragged=True),
]
INFERENCE = [name for name, entry in peers.PEERS.items() if not entry.trains]


def load(name: str) -> Peer:
    if peers.missing(name):
        pytest.skip(f"{' and '.join(peers.missing(name))} not installed")
    return peers.load(name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", INFERENCE)
def test_results_are_exact_to_rounding(name: str, kind, shape: Shape) -> None:
    peer, contest = load(name), Contest(kind, shape)
    if peer.refuses(kind, shape):
        assert (name, kind.name) == ("openvino", "lstm-peephole")
        return
    results = peer.results(contest, 1)
    assert bool(results) == (kind.is_stock or name != "torch")
    assert peer_failures(contest, lambda: results) == {}


@pytest.mark.parametrize("name", INFERENCE)
def test_what_is_timed_runs_from_zeros(name: str) -> None:
    peer, contest = load(name), Contest(KINDS["gru"], Shape(3, 5, 4, 7))
    run = peer.run(contest, 1)
    outputs = [run() for _ in range(2)][1]
    y = outputs.to_tuple()[0] if name == "openvino" else outputs[0]
    expected, _ = contest.ours(contest.x)
    np.testing.assert_allclose(torch.as_tensor(y).numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", INFERENCE)
def test_the_lengths_in_turn_are_the_same_for_all(name: str) -> None:
    peer, contest = load(name), Contest(KINDS["gru"], Shape(2, 8, 4, 3, new_length=True))
    run, inputs = peer.run(contest, 1), contest.inputs()
    for _ in range(6):
        outputs = run()
        y = outputs.to_tuple()[0] if name == "openvino" else outputs[0]
        assert len(y) == len(next(inputs))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_projections_are_refused(name: str) -> None:
    assert load(name).refuses(KINDS["lstm"], Shape(3, 5, 4, 7, proj=2)) == "ONNX has no projection"
