"""Orders that are computed."""

import numpy as np
import pytest

from penstock.data.permutation import Permutation


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 1000, 65_537])
def test_every_number_once(count: int) -> None:
    found = Permutation(count, 1, 2)[np.arange(count)]
    assert np.array_equal(np.sort(found), np.arange(count))


def test_the_order_is_that_of_its_keys() -> None:
    places = np.arange(10_000)
    first = Permutation(10_000, 1, 0)[places]
    assert np.array_equal(Permutation(10_000, 1, 0)[places[5000:]], first[5000:])
    for keys in ((1, 1), (2, 0)):
        assert (Permutation(10_000, *keys)[places] == first).mean() < 0.01


def test_it_looks_random() -> None:
    """Neighbours go anywhere: correlations and the spread over 100 cells are those of chance."""
    count = 100_000
    found = Permutation(count, 7)[np.arange(count)]
    for lag in (1, 2, 256):
        assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < 0.015
    cells = np.histogram2d(np.arange(count), found, 10)[0]
    assert ((cells - 1000) ** 2 / 1000).sum() < 150  # chi-squared with 81 degrees of freedom


def test_known_values() -> None:
    """They must never change: a training that is resumed depends on them."""
    assert Permutation(10, 1, 0)[np.arange(10)].tolist() == [0, 4, 7, 9, 2, 3, 5, 8, 6, 1]
