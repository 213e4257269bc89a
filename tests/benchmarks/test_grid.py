"""The cells and shapes of the benchmark."""

import pytest

import penstock.nn
from benchmarks.grid import FULL, GRIDS, KINDS, Shape
from penstock.cells import CELLS

DENSE = [
    (1, 1, 64, 64),
    (1, 1, 256, 256),
    (1, 100, 64, 64),
    (1, 100, 256, 256),
    (32, 500, 32, 32),
    (32, 100, 128, 128),
    (64, 100, 256, 256),
    (64, 50, 512, 512),
    (128, 35, 650, 650),
    (16, 200, 1024, 1024),
]
FROM_PROJECTS = [(8, 1, 4, 256), (4096, 1, 16, 32), (1024, 97, 1, 128)]


def test_full_grid_has_every_kind_of_shape() -> None:
    assert {Shape(*sizes) for sizes in DENSE + FROM_PROJECTS} <= set(FULL)
    assert Shape(32, 293, 60, 128, strided=True) in FULL
    assert {shape.proj for shape in FULL} == {0, 1, 64}
    for special in ("ragged", "new_length", "bidirectional"):
        assert any(getattr(shape, special) for shape in FULL), special


@pytest.mark.parametrize("grid", GRIDS)
def test_no_shape_stands_twice(grid: str) -> None:
    names = [str(shape) for shape in GRIDS[grid]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kinds_are_our_layers(kind) -> None:
    layer = getattr(penstock.nn, kind.layer)(3, 4, **kind.options)
    assert layer._cell() == kind.cell
    assert layer._is_stock() == kind.is_stock
    assert len(CELLS[kind.cell].gates) == kind.gates


def test_only_lstms_have_projections() -> None:
    fitting = [name for name, kind in KINDS.items() if Shape(1, 1, 2, 4, proj=2).fits(kind)]
    assert fitting == ["lstm", "lstm-peephole"]


def test_operations_of_a_layer() -> None:
    # One row, one step, one unit, one input: two products for each of four gates, and as many sums.
    assert Shape(1, 1, 1, 1).flops(KINDS["lstm"]) == 16
    assert Shape(64, 100, 256, 256).flops(KINDS["gru"]) == 2 * 64 * 100 * 3 * 256 * 512
    stacked = Shape(2, 3, 5, 7, L=2, bidirectional=True, proj=4)
    below, above = 4 * 7 * (5 + 4) + 4 * 7, 4 * 7 * (8 + 4) + 4 * 7
    assert stacked.flops(KINDS["lstm"]) == 2 * 2 * 3 * 2 * (below + above)
    assert stacked.flops(KINDS["lstm"], pairs=1) == 2 * 2 * (below + above)
