"""Examples to batches, in an order that a resumed run repeats, on one process or several."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from penstock.training.job import BatchSampler, Job, SequenceDataset


class ResumableBatches:
    """The batches of one epoch after the other, from a given epoch and batch on.

    Every iterator that yields anything is an epoch (a loader with workers also makes some that do not).
    """

    def __init__(self, batches: BatchSampler, epoch: int = 0, first: int = 0) -> None:
        self.batches = batches
        self.epoch = epoch
        self.first = first

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        self.batches.set_epoch(self.epoch)
        first, self.first = self.first, 0
        self.epoch += 1
        yield from islice(iter(self.batches), first, None)


class _Share:
    """Every `world_size`-th batch: each example is measured by one process, and once.

    A process without a batch would skip what the others do together: with fewer batches than processes every
    example is a batch.
    """

    def __init__(self, batches: BatchSampler, rank: int, world_size: int) -> None:
        few = len(batches) < world_size
        self.batches = [[example] for batch in batches for example in batch] if few else batches
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(range(self.rank, len(self.batches), self.world_size))

    def __iter__(self) -> Iterator[list[Any]]:
        return islice(iter(self.batches), self.rank, None, self.world_size)


def training_loader(job: Job, rank: int, world_size: int, epoch: int = 0, first: int = 0) -> DataLoader:
    """Shuffled batches of the training data, from batch `first` of `epoch` on."""
    batches = job.batches(job.train_data, shuffle=True, rank=rank, world_size=world_size)
    return _loader(job, job.train_data, ResumableBatches(batches, epoch, first))


def measuring_loader(job: Job, data: SequenceDataset, rank: int = 0, world_size: int = 1) -> DataLoader:
    """This process's share of the batches of `data`; of each one, where they go in order."""
    if job.in_order:
        batches = job.batches(data, shuffle=False, rank=rank, world_size=world_size)
        return _loader(job, data, batches)
    batches = job.batches(data, shuffle=False, rank=0, world_size=1)
    return _loader(job, data, _Share(batches, rank, world_size))


def _loader(job: Job, data: SequenceDataset, batches: ResumableBatches | _Share | BatchSampler) -> DataLoader:
    workers = job.config.workers
    return DataLoader(
        data,  # pyright: ignore[reportArgumentType]  (any object with length and items will do)
        batch_sampler=batches,
        collate_fn=job.collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
