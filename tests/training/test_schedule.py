"""Learning rates over a run."""

import math

import pytest

from penstock.training.schedule import Schedule


def factors(kind: str, warmup: float, steps: int) -> list[float]:
    schedule = Schedule(kind, warmup, steps)  # pyright: ignore[reportArgumentType]
    return [schedule.factor(step) for step in range(steps + 1)]


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "plateau"])
def test_warmup_rises_evenly_to_the_largest_rate(kind: str) -> None:
    rising = factors(kind, 0.2, 20)[:5]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_decays_follow_their_formulas_and_end_at_zero() -> None:
    assert factors("constant", 0, 4) == [1, 1, 1, 1, 1]
    assert factors("linear", 0, 4) == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert factors("cosine", 0, 4) == pytest.approx([(1 + math.cos(math.pi * i / 4)) / 2 for i in range(5)])


def test_beyond_the_last_step_nothing_breaks() -> None:
    for kind in ("linear", "cosine"):
        assert Schedule(kind, 0.1, 10).factor(50) == pytest.approx(0)


def test_plateau_halves_after_every_epoch_without_gain() -> None:
    schedule = Schedule("plateau", 0, 100)
    for improved, expected in [(True, 1), (False, 0.5), (True, 0.5), (False, 0.25)]:
        schedule.epoch_ended(improved)
        assert schedule.factor(50) == expected
