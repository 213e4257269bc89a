"""A random order of any length that is computed, not held in memory."""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


def mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A random-looking number for each: the last step of SplitMix64 (Steele et al. 2014), one to one."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Permutation:
    """The numbers from 0 to before `count` in an order that depends on `keys` alone: `order[places]`.

    A Feistel network over the next power of four, walked on from a number that is too large until one is not
    (Black & Rogaway 2002).

    Args:
        count: n.
        keys: whole numbers from 0, such as seed and epoch.
    """

    def __init__(self, count: int, *keys: int) -> None:
        self.count = count
        self._bits = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
        self._low = np.uint64((1 << int(self._bits)) - 1)
        self._keys = np.random.SeedSequence(keys).generate_state(_ROUNDS, np.uint64)

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers at `places`, each from 0 to before n."""
        found = self._step(places.astype(np.uint64))
        while (outside := found >= self.count).any():
            found[outside] = self._step(found[outside])
        return found.astype(np.int64)

    def _step(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = numbers >> self._bits, numbers & self._low
        for key in self._keys:
            left, right = right, left ^ (mixed(right + key) & self._low)
        return left << self._bits | right
