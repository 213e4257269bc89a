"""The checks beside the grid, each in its smallest form."""

from typing import Any

import pytest
import torch

from benchmarks.checks import Settings, bf16, first_calls, frameworks, growth, memory, tagger
from benchmarks.figures import FIGURES
from benchmarks.gate import Gate
from benchmarks.grid import GRIDS, KINDS, Shape


def settings(*peers: str, **changes: Any) -> Settings:
    options = {
        "figures": frozenset(FIGURES),
        "grid": "short",
        "shapes": GRIDS["short"],
        "kinds": tuple(KINDS.values()),
        "threads": (1,),
        "peers": peers,
        "seconds": 0.0,
    }
    return Settings(**{**options, **changes})


def test_first_calls_of_ours_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_calls, "SHAPES", 2)
    lines = first_calls.measure(KINDS["gru"], 1)
    assert [line.case for line in lines] == ["forward", "training"]
    for line in lines:
        assert not line.failures
        assert line.value == pytest.approx(line.times["torch"] / line.times["ours"])


def test_no_two_first_calls_have_the_same_shape() -> None:
    shapes = [shape for kind in KINDS.values() for n in (1, 2) for shape in first_calls.shapes(kind, n)]
    assert len(set(shapes)) == len(shapes)


@pytest.mark.usefixtures("quotients_of_medians")
def test_tagger_is_checked_and_timed() -> None:
    (line,) = tagger.measure((3, 8, 5, 6), [1], 0.0)
    assert not line.failures
    assert line.value == pytest.approx(line.times["torch"] / line.times["ours"])


def test_taggers_of_one_seed_learn_the_same() -> None:
    torch.manual_seed(0)
    ours, theirs = tagger._pair(5, 6)
    batches = [tagger._batch(3, 8) for _ in range(2)]
    before = [model.loss(batches[0]).item() for model in (ours, theirs)]
    for model in (ours, theirs):
        step = tagger._training(model, batches)
        for _ in range(20):
            step()
    after = [model.loss(batches[0]).item() for model in (ours, theirs)]
    assert before[0] == pytest.approx(before[1])
    assert after[0] == pytest.approx(after[1], rel=1e-3)
    assert after[0] < before[0]


def test_growth_is_the_time_a_step_over_that_of_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIZE", 4)
    monkeypatch.setattr(growth, "SHORT", (4, 8, 20))
    lines = growth.measure(2, (4, 8, 20), 0.0)
    assert [line.case for line in lines] == [
        f"2×{T}×4×4 {mode}" for mode in ("forward", "training") for T in (8, 20)
    ]
    for line in lines:
        (first, short), (_, long) = line.times.items()
        assert first == "4 steps"
        T = int(line.case.split("×")[1])
        assert line.value == pytest.approx(long / T / (short / 4))


def test_growth_of_wrong_results_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SIZE", 4)
    monkeypatch.setattr(growth, "SHORT", (4, 8, 20))
    wrong = {8: {"y": "1e-3"}}
    monkeypatch.setattr(Gate, "failures", lambda self, threads: wrong.get(self.shape.T, {}))
    lines = growth.measure(2, (4, 8, 20), 0.0)
    assert [(line.value is None, bool(line.failures)) for line in lines] == [(True, True), (False, False)] * 2


@pytest.mark.skipif(bool(memory.unavailable()), reason="no /proc/self/clear_refs here")
def test_peak_memory_is_that_of_the_step() -> None:
    """At least what a training step keeps: y and the gates of every step."""
    (line,) = memory.measure(KINDS["lstm"], Shape(64, 100, 64, 128))
    gates = 64 * 100 * 128 * 5 * 4 / 2**20
    assert gates < line.times["ours"] < 10 * gates
    assert gates < line.times["torch"] < 10 * gates
    assert line.value == pytest.approx(line.times["ours"] / line.times["torch"])


def test_frameworks_take_plain_shapes_that_are_not_too_large() -> None:
    cases = list(frameworks.cases(settings("torch", "jax", grid="full", shapes=GRIDS["full"])))
    assert [case.key for case in cases] == [f"jax {name} 1" for name in KINDS]
    (arguments,) = cases[0].measure.args  # pyright: ignore[reportFunctionMemberAccess]
    sizes = [(shape["B"], shape["H"]) for shape in arguments["shapes"]]
    assert (64, 512) in sizes
    assert (16, 1024) not in sizes
    assert not any(shape["ragged"] or shape["bidirectional"] for shape in arguments["shapes"])


def test_short_frameworks_take_one_process_for_all_cells() -> None:
    (case,) = frameworks.cases(settings("jax"))
    assert case.key == f"jax {' '.join(KINDS)} 1"


def test_checks_against_torch_need_torch() -> None:
    for check in (first_calls, memory, tagger):
        assert not list(check.cases(settings()))
        assert bool(list(check.cases(settings("torch")))) == (not check.unavailable())


def test_bf16_is_measured_where_the_kernels_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16, "NATIVE_DTYPES", (torch.float32,))
    assert bf16.unavailable().keys() == set(bf16.FIGURES)
    assert list(bf16.cases(settings())) == []
    monkeypatch.setattr(bf16, "NATIVE_DTYPES", (torch.float32, torch.bfloat16))
    assert bf16.unavailable() == {}
    assert {case.key.split()[-1] for case in bf16.cases(settings())} == {"8×1×4×256", "64×50×256×256"}


@pytest.mark.usefixtures("quotients_of_medians")
def test_bf16_beside_float32() -> None:
    """Whichever path bfloat16 takes: it is checked against float64 and timed beside float32."""
    lines = bf16.measure(settings(), KINDS["lstm"], Shape(3, 5, 4, 7))
    assert [line.figure for line in lines] == ["bf16-forward", "bf16-training"]
    for line in lines:
        assert not line.failures
        assert line.value == pytest.approx(line.times["float32"] / line.times["bf16"])
