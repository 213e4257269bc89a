"""Rows to batches: length-bucketed batches under a token budget, and padding."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Sampler

from penstock.data.permutation import Permutation

# A bucket spans at most an eighth of an octave of lengths (so padding stays below an eighth), unless it would
# then hold fewer than this many batches: rows are mixed only within their bucket, and small data must mix
# too.
_BATCHES_IN_A_BUCKET = 4


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of row indices whose padded size, rows x longest row, stays within `batch_tokens`.

    A row longer than the budget forms a batch of its own. Every row appears exactly once in an epoch over all
    ranks together, and every rank gets the same number of batches: where the count does not divide, the
    largest batches are halved. (Only if that is impossible, since all batches are single rows, is a row
    repeated.) The number of batches is the same in every epoch.

    With `shuffle`, rows are mixed within buckets of similar length, and the batches come in random order,
    another in every epoch; the ranks' batches of one step are of similar length, so that no rank waits.
    Without it, batches go from the longest rows to the shortest, always the same; the indices yielded tell
    the original order.

    Args:
        lengths: (N,) the rows' lengths, N >= world_size; an empty row counts as one token.
        batch_tokens: the budget, positive.
        max_rows: at most so many rows in a batch; None for no limit.
        shuffle: see above.
        seed: of the shuffle.
        rank: this process.
        world_size: the number of processes.
    """

    def __init__(
        self,
        lengths: ArrayLike,
        batch_tokens: int,
        *,
        max_rows: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.lengths: NDArray[np.int64] = np.maximum(np.asarray(lengths, np.int64), 1)
        if self.lengths.ndim != 1 or len(self.lengths) < world_size:
            raise ValueError(f"lengths: expected shape (N,), N >= {world_size}, got {self.lengths.shape}")
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens: expected a positive number, got {batch_tokens}")
        if max_rows is not None and max_rows < 1:
            raise ValueError(f"max_rows: expected None or a positive number, got {max_rows}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected 0 to {world_size - 1}, got {rank}")
        self.batch_tokens = batch_tokens
        self.max_rows = max_rows or len(self.lengths)
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._order = np.argsort(-self.lengths, kind="stable")
        self._buckets = self._bucket_edges()
        self._cuts = self._even(self._bucketed_cuts() if shuffle else self._greedy_cuts())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose shuffle the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil((len(self._cuts) - 1) / self.world_size)

    def __iter__(self) -> Iterator[list[int]]:
        steps, order = np.arange(len(self)), self._order
        if self.shuffle:
            random = np.random.default_rng([self.seed, self.epoch])
            steps = random.permutation(steps)
            order = self._mixed(random)
        batches = len(self._cuts) - 1
        for step in steps:
            batch = min(int(step) * self.world_size + self.rank, batches - 1)
            yield order[self._cuts[batch] : self._cuts[batch + 1]].tolist()

    def _rows(self, longest: int) -> int:
        return min(max(self.batch_tokens // longest, 1), self.max_rows)

    def _greedy_cuts(self) -> list[int]:
        """Where batches begin in the rows sorted from the longest; the last entry is N."""
        cuts = [0]
        while cuts[-1] < len(self._order):
            longest = int(self.lengths[self._order[cuts[-1]]])
            cuts.append(min(cuts[-1] + self._rows(longest), len(self._order)))
        return cuts

    def _bucketed_cuts(self) -> list[int]:
        """The same, each batch within one bucket and the batches of a bucket of even size."""
        cuts = [0]
        for first, last in itertools.pairwise(self._buckets):
            batches = math.ceil((last - first) / self._rows(int(self.lengths[self._order[first]])))
            cuts += [first + (last - first) * (i + 1) // batches for i in range(batches)]
        return cuts

    def _bucket_edges(self) -> list[int]:
        """Where buckets begin in the rows sorted from the longest; the last entry is N."""
        sorted_lengths = self.lengths[self._order]
        exponents = np.frexp(sorted_lengths)[1].astype(np.int64)
        eighths = exponents * 16 + (sorted_lengths * 16 >> exponents)  # 8 to 15 within each octave
        edges = [0]
        for edge in np.flatnonzero(np.diff(eighths)) + 1:
            if edge - edges[-1] >= self._bucket_rows(edges[-1]):
                edges.append(int(edge))
        if len(edges) > 1 and len(self._order) - edges[-1] < self._bucket_rows(edges[-1]):
            edges.pop()
        return [*edges, len(self._order)]

    def _bucket_rows(self, first: int) -> int:
        return _BATCHES_IN_A_BUCKET * self._rows(int(self.lengths[self._order[first]]))

    def _even(self, cuts: list[int]) -> list[int]:
        """Halve the largest batches until the ranks share them evenly."""
        while (len(cuts) - 1) % self.world_size:
            sizes = np.diff(cuts)
            largest = int(np.argmax(sizes))
            if sizes[largest] < 2:
                break
            cuts.insert(largest + 1, cuts[largest] + int(sizes[largest]) // 2)
        return cuts

    def _mixed(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The rows in sorted order of buckets, and in random order within each."""
        order = self._order.copy()
        for first, last in itertools.pairwise(self._buckets):
            random.shuffle(order[first:last])
        return order


class EvenBatchSampler(Sampler[list[int]]):
    """Batches of rows of one length, each of which appears exactly once in an epoch; no order is in memory.

    All ranks together share the rows as evenly as can be, and every rank gets the same number of batches.
    (Only where there are fewer rows than that takes, a row is repeated.)

    Args:
        count: N rows, N >= world_size.
        rows: at most so many in a batch.
        shuffle: mix all rows, otherwise in every epoch.
        seed: of the shuffle.
        rank: this process.
        world_size: the number of processes.
    """

    def __init__(
        self, count: int, rows: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.count, self.shuffle, self.seed = count, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._steps = math.ceil(count / (rows * world_size))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose shuffle the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[int]]:
        order = Permutation(self.count, self.seed, self.epoch)
        batches = self._steps * self.world_size
        for batch in range(self.rank, batches, self.world_size):
            first = min(batch * self.count // batches, self.count - 1)
            last = max((batch + 1) * self.count // batches, first + 1)
            places = np.arange(first, last)
            yield (order[places] if self.shuffle else places).tolist()


def pad(rows: Sequence[NDArray[Any]], value: float = 0) -> tuple[Tensor, Tensor]:
    """Stack rows of differing length into one tensor, filled up with `value`.

    Args:
        rows: B arrays of shape (n,) or (n, D), integers or floats.
        value: what stands behind a row's end.

    Returns:
        The batch, (B, T) or (B, T, D) with T the longest row (at least 1), int64 for integers and the rows'
        own dtype for floats; and the lengths, int64 (B,).
    """
    lengths = [len(row) for row in rows]
    dtype = np.int64 if np.issubdtype(rows[0].dtype, np.integer) else rows[0].dtype
    batch = np.full((len(rows), max(*lengths, 1), *rows[0].shape[1:]), value, dtype)
    for padded, row in zip(batch, rows, strict=True):
        padded[: len(row)] = row
    return torch.from_numpy(batch), torch.tensor(lengths, dtype=torch.int64)
