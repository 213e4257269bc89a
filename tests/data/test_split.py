"""The held-out part: stratified, seeded, and fixed for good."""

import numpy as np
import pytest

from penstock.data.split import stratified_split
from penstock.errors import InputError


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_parts_are_disjoint_complete_and_stratified(seed: int, fraction: float) -> None:
    labels = np.random.default_rng(seed).choice(6, 1000, p=[0.5, 0.2, 0.2, 0.06, 0.02, 0.02])
    kept, held = stratified_split(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(1000))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    assert len(held) == round(1000 * fraction)
    for label, count in enumerate(np.bincount(labels)):
        assert abs((labels[held] == label).sum() - count * fraction) <= 1
        assert (labels[kept] == label).any()


def test_known_values() -> None:
    """They must never change: a saved model's development part depends on them."""
    _, held = stratified_split([0] * 20 + [1] * 10, 0.2, seed=1)
    assert held.tolist() == [5, 6, 11, 18, 23, 25]


def test_depends_on_the_seed_alone() -> None:
    labels = [0, 1] * 500
    first, again, other = (stratified_split(labels, 0.1, seed)[1].tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_held_rows_are_spread_out() -> None:
    _, held = stratified_split(np.zeros(100_000, int), 0.1, seed=0)
    assert np.histogram(held, 10, (0, 100_000))[0].std() < 60  # about 30 when drawn at random
    assert abs((held % 2).mean() - 0.5) < 0.02


def test_many_rare_labels_still_give_a_held_part() -> None:
    labels = np.repeat(np.arange(20), 4)
    kept, held = stratified_split(labels, 0.1)
    assert len(held) == 8
    assert len(set(labels[held])) == 8
    assert set(labels[kept]) == set(range(20))


def test_every_label_keeps_a_row() -> None:
    kept, held = stratified_split([0, 1, 1], 0.9)
    assert 0 in kept
    assert len(held) == 1


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match=r"cannot hold out a fraction of 0\.1 of 2 rows with 2 labels"):
        stratified_split([0, 1], 0.1)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        stratified_split([0, 1] * 10, fraction)
