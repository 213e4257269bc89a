"""What a task gives to the one training path: data, model, metric, and what is needed to load it again.

A task subclasses `Job`, and `penstock.training.fit(JobClass, config)` does the rest:

    config = job_class.resolve(config)  # in every process: take over what other files decide
    job_class.prepare(config, folder)   # once a machine: read the user's files, write encoded data to folder
    job = job_class(config, folder)     # in every process: open what was prepared, build the model
"""

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from penstock.training.config import TrainingOptions
from penstock.training.groups import layer_groups

if TYPE_CHECKING:  # predicting takes no torchmetrics, which are slow to import
    import torchmetrics

    Metric = torchmetrics.Metric | torchmetrics.MetricCollection

Batch = dict[str, Tensor]
Figures = dict[str, float]


class SequenceDataset(Protocol):
    """Examples of differing length, read one by one (from disk, so that data may exceed memory)."""

    @property
    def lengths(self) -> np.ndarray:
        """Steps of every example, int64 (N,)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class BatchSampler(Protocol):
    """Lists of what the data take as an index, such as example numbers, one list a batch.

    The order of an epoch depends on seed and epoch only.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Any]]: ...

    def set_epoch(self, epoch: int) -> None: ...


class Comparison(NamedTuple):
    """Methods too slow for all test data, measured on a part of them.

    Attributes:
        title: which part it is.
        data: that part, which the model is measured on too.
        methods: name -> figures there.
    """

    title: str
    data: SequenceDataset
    methods: dict[str, Figures]


class TaskModel(nn.Module, abc.ABC):
    """A model that knows its loss."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Outputs for a batch, in whatever form `loss` and the task's metric take."""

    @abc.abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Mean loss of the batch, a scalar."""

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """All parameters, in groups from the input to the output: what is unfrozen together.

        By default one group for each child, one for each layer of a recurrent stack, and one for what
        belongs to no child.
        """
        groups = [group for child in self.children() for group in layer_groups(child)]
        return [*groups, list(self.parameters(recurse=False))]

    def weight(self, batch: Batch) -> Tensor | int:
        """How much the loss of this batch counts in a mean over batches: the number of its sequences."""
        return len(batch["lengths"])

    def carried(self) -> Any:
        """What the next batch of an epoch needs of the last: tensors in lists and tuples; or None."""
        return None

    def carry(self, carried: Any) -> None:
        """Go on from what `carried` returned, when a run is resumed in the middle of an epoch."""


class Job(abc.ABC):
    """One training run of one task: everything that differs between tasks, and nothing that does not.

    Attributes:
        task: the verb, as in `penstock train VERB`; stored in config.json.
        config: the fully resolved configuration.
        train_data, dev_data: what to learn from, and what decides which epoch was best.
        test_data: what is only measured at the very end, or None.
        model: the model to train, freshly initialised.
        monitor: name of the metric that decides which epoch is best.
        lower_is_better: whether that is the one with the lowest.
        in_order: whether the model carries something from batch to batch, so that a process that measures
            takes its share of the sequences, and not every so many-th batch.
    """

    task: ClassVar[str]
    monitor: str
    lower_is_better: ClassVar[bool] = False
    in_order: ClassVar[bool] = False
    config: TrainingOptions
    train_data: SequenceDataset
    dev_data: SequenceDataset
    test_data: SequenceDataset | None
    model: TaskModel

    @classmethod
    def resolve(cls, config: Any) -> Any:
        """The configuration with what it takes over from a trained model; once more it changes nothing."""
        return config

    @classmethod
    @abc.abstractmethod
    def prepare(cls, config: Any, folder: Path) -> None:
        """Read and check the user's files and write all that training needs to `folder`, which is empty.

        The folder is removed when training ends. Whatever is random here is drawn from `config.seed`.
        """

    @abc.abstractmethod
    def __init__(self, config: Any, folder: Path) -> None:
        """Open what `prepare` wrote and build the model; torch's generator is already seeded."""

    @abc.abstractmethod
    def batches(self, data: SequenceDataset, *, shuffle: bool, rank: int, world_size: int) -> BatchSampler:
        """The batches of `data` for process `rank` of `world_size`; every process gets the same number."""

    @abc.abstractmethod
    def collate(self, examples: list[Any]) -> Batch:
        """Pad examples into one batch; always with "lengths", int64 (B,)."""

    @abc.abstractmethod
    def metric(self) -> "Metric":
        """A fresh metric: `update(outputs, batch)`, `compute() -> {name: number}`, summed over processes."""

    def complete(self, device: torch.device) -> None:  # noqa: B027  (most tasks change nothing)
        """Last changes to the trained model, before it is measured on the test data and saved."""

    def references(self) -> dict[str, Figures]:
        """Name of a simpler method -> its figures on the test data, shown beside those of the model."""
        return {}

    def comparison(self) -> Comparison | None:
        """Slower methods on a part of the test data, shown beside the model there."""
        return None

    @abc.abstractmethod
    def assets(self) -> dict[str, str]:
        """File name -> text of what lies beside the weights: vocabularies, labels, scalers."""

    @abc.abstractmethod
    def architecture(self) -> dict[str, Any]:
        """The arguments, as JSON can hold them, from which the model is built again on loading."""
