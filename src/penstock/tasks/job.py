"""What the jobs of all tasks have in common: how their sequences are put into batches."""

from penstock.data.batches import TokenBatchSampler
from penstock.training.job import BatchSampler, Job, SequenceDataset


class SequenceJob(Job):
    """A job whose batches hold sequences of similar length, up to a number of steps and of rows."""

    def batches(self, data: SequenceDataset, *, shuffle: bool, rank: int, world_size: int) -> BatchSampler:
        return TokenBatchSampler(
            data.lengths,
            self.config.batch_tokens,
            max_rows=self.config.batch_rows,
            shuffle=shuffle,
            seed=self.config.seed,
            rank=rank,
            world_size=world_size,
        )
