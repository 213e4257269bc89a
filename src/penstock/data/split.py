"""Hold out a part of the rows: seeded, stratified, the same on every machine."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.data.permutation import mixed
from penstock.errors import InputError


def stratified_split(
    labels: Sequence[int] | NDArray[np.integer], fraction: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose rows to keep and rows to hold out, each label in about the same proportion.

    Which rows are held out depends only on the arguments, not on a random generator's implementation.
    Together they are round(N * fraction) rows, and every label keeps at least one row.

    Args:
        labels: (N,) the rows' label ids; all the same for a split without strata.
        fraction: of the rows to hold out, between 0 and 1.
        seed: another seed holds out other rows.

    Returns:
        The indices kept and the indices held out, each int64 and increasing.

    Raises:
        InputError: there are too few rows to hold one out.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: expected a number between 0 and 1, got {fraction}")
    ids = np.asarray(labels, np.int64)
    kinds, which, counts = np.unique(ids, return_inverse=True, return_counts=True)
    quotas = _quotas(counts, fraction)
    if not quotas.sum():
        raise InputError(
            f"cannot hold out a fraction of {fraction} of {len(ids)} rows with {len(kinds)} labels"
        )
    order = np.lexsort((_hashes(len(ids), seed), which))  # by label, then at random
    place_in_label = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.zeros(len(ids), bool)
    held[order] = place_in_label < np.repeat(quotas, counts)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _quotas(counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """How many of each label to hold out: rounded down, then up where the remainder is largest."""
    exact = counts * fraction
    quotas = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    missing = round(float(exact.sum())) - int(quotas.sum())
    for label in np.argsort(quotas - exact, kind="stable"):
        if missing > 0 and quotas[label] < counts[label] - 1:
            quotas[label] += 1
            missing -= 1
    return quotas


def _hashes(count: int, seed: int) -> NDArray[np.uint64]:
    """A distinct random-looking number for each index (Steele et al. 2014, SplitMix64)."""
    z = np.arange(count, dtype=np.uint64) + np.uint64(1)
    start = (seed * 0xD1342543DE82EF95) % 2**64
    with np.errstate(over="ignore"):
        return mixed(z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start))
