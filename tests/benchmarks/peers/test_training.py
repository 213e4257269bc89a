"""The peers of training compute what torch computes, each in a process of its own."""

from dataclasses import asdict

import pytest

from benchmarks import child, peers
from benchmarks.figures import Line
from benchmarks.grid import KINDS, Shape

SHAPES = [Shape(3, 5, 4, 7), Shape(3, 5, 4, 7, strided=True)]
TRAINING = [name for name, entry in peers.PEERS.items() if entry.trains]
REFUSED = {"keras": {"lstm-peephole"}, "jax": set()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_results_and_gradients_are_those_of_the_contest(name: str) -> None:
    if peers.missing(name):
        pytest.skip(f"{' and '.join(peers.missing(name))} not installed")
    arguments = {
        "name": name,
        "kinds": list(KINDS),
        "shapes": [asdict(shape) for shape in [*SHAPES, Shape(3, 5, 4, 7, ragged=True)]],
        "threads": 1,
        "seconds": 0.0,
    }
    found = child.run("benchmarks.checks.frameworks:measure_here", arguments, 1)
    lines = [Line(**line) for line in found]
    expected = [(kind, str(shape)) for kind in KINDS if kind not in REFUSED[name] for shape in SHAPES]
    assert [(line.cell, line.case) for line in lines] == expected
    for line in lines:
        assert line.notes == []
        assert line.failures == {}
        assert line.times.keys() == {"ours", name}
        # The median of what each round says, which is not the quotient of the medians.
        assert line.value == pytest.approx(line.times[name] / line.times["ours"], rel=0.5)
