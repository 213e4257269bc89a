"""The limit: under every time that a layer reaches, and made of what was measured."""

import pytest

from benchmarks import contest as contests
from benchmarks import roofline
from benchmarks.contest import Contest
from benchmarks.grid import KINDS, Shape
from benchmarks.timing import Contestant, in_turns
from penstock import _native


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peak of 2 GFLOP/s, 3 GB/s, and a call that takes no time."""
    monkeypatch.setattr(_native, "measure_peak", lambda seconds: 2.0)
    monkeypatch.setattr(_native, "measure_reading", lambda matrix, seconds: 3.0)
    monkeypatch.setattr(roofline, "_idle_ms", lambda contest, mode: 0.0)
    roofline._reading_speed.cache_clear()


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("mode", "products", "reads"), [("forward", 1, 1), ("training", 3, 2)])
def test_products_or_the_weights_read_at_every_step(mode: str, products: int, reads: int) -> None:
    kind = KINDS["gru"]
    many, one = Contest(kind, Shape(64, 5, 3, 7)), Contest(kind, Shape(1, 5, 3, 7))
    flops, weights = 2 * 5 * 64 * 3 * 7 * (3 + 7), 4 * 3 * 7 * (5 * 7 + 3)
    assert roofline.least_ms(many, mode, 1) == pytest.approx(products * flops / 2e6)
    assert roofline.least_ms(many, mode, 2) == pytest.approx(products * flops / 4e6)
    least = max(products * flops / 64 / 2e6, reads * weights / 3e6)
    assert roofline.least_ms(one, mode, 1) == pytest.approx(least)


@pytest.mark.usefixtures("measured")
def test_a_ragged_batch_has_fewer_products() -> None:
    kind = KINDS["rnn"]
    ragged, full = (Contest(kind, Shape(64, 40, 8, 8, ragged=ragged)) for ragged in (True, False))
    assert ragged.lengths is not None
    share = roofline.least_ms(ragged, "forward", 1) / roofline.least_ms(full, "forward", 1)
    assert share == pytest.approx(ragged.lengths.sum().item() / (64 * 40))


@pytest.mark.parametrize("mode", ["forward", "training"])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("lstm", Shape(1, 1, 8, 8)),
        ("lstm", Shape(3, 4, 5, 6, L=2, bidirectional=True, proj=3)),
        ("gru", Shape(32, 20, 64, 64, ragged=True)),
        ("rnn", Shape(16, 30, 32, 64, new_length=True)),
    ],
)
def test_no_layer_is_faster(kind: str, shape: Shape, mode: str) -> None:
    contest = Contest(KINDS[kind], shape)
    run = getattr(contest, mode)(contests.call_ours, contest.ours)
    (ours,) = in_turns([Contestant("ours", 1, run)], 0.01)
    assert 0 < roofline.least_ms(contest, mode, 1) < ours.ms
