"""A job small enough to train in a test: does a sequence hold more ones than twos?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy

from penstock.data.batches import pad
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.nn import LSTM
from penstock.tasks.job import SequenceJob
from penstock.training.config import RecurrentOptions, TrainingOptions
from penstock.training.job import Batch, TaskModel


class ToyConfig(TrainingOptions, RecurrentOptions):
    """Toy."""

    sentences: int = 120


def toy_config(output: Path, **options: Any) -> ToyConfig:
    """A configuration that trains in about a second."""
    small = {"hidden_size": 8, "epochs": 4, "batch_rows": 16, "learning_rate": 0.02, "threads": 1}
    return ToyConfig(output=output, **{**small, **options})


class ToyData:
    def __init__(self, path: Path) -> None:
        self.rows = RaggedArray(path)

    @property
    def lengths(self) -> np.ndarray:
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.rows[index]


class ToyModel(TaskModel):
    """Embedding, LSTM, dropout, linear; `trouble(step)` may turn the loss into something else."""

    trouble: Callable[[int, Tensor], Tensor] = staticmethod(lambda step, loss: loss)

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.recurrent = LSTM(4, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, 2)
        self.steps = 0

    def forward(self, batch: Batch) -> Tensor:
        hidden = self.recurrent(self.embedding(batch["inputs"]), lengths=batch["lengths"])[1][0][-1]
        return self.output(self.dropout(hidden))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        loss = nn.functional.cross_entropy(outputs, batch["labels"])
        if not self.training:
            return loss
        self.steps += 1
        return self.trouble(self.steps, loss)


class ToyMetric(BinaryAccuracy):
    def update(self, outputs: Tensor, batch: Batch) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().update(outputs.argmax(1), batch["labels"])

    def compute(self) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"accuracy": super().compute()}


class ToyJob(SequenceJob):
    task = "toy"
    monitor = "accuracy"
    trouble: Callable[[int, Tensor], Tensor] | None = None

    @classmethod
    def prepare(cls, config: ToyConfig, folder: Path) -> None:
        random = np.random.default_rng(config.seed)
        for part, count in {"train": config.sentences, "dev": 40, "test": 40}.items():
            with RaggedWriter(folder / f"{part}.rows") as rows:
                for length in random.integers(1, 12, count):
                    rows.append(random.integers(1, 3, length, dtype=np.int32))

    def __init__(self, config: ToyConfig, folder: Path) -> None:
        self.config = config
        self.train_data, self.dev_data, self.test_data = (
            ToyData(folder / f"{part}.rows") for part in ("train", "dev", "test")
        )
        model = ToyModel(config.hidden_size, config.dropout)
        if self.trouble is not None:
            model.trouble = self.trouble
        self.model = model

    def collate(self, examples: list[np.ndarray]) -> Batch:
        inputs, lengths = pad(examples)
        labels = torch.tensor([int((row == 1).sum() > (row == 2).sum()) for row in examples])
        return {"inputs": inputs, "lengths": lengths, "labels": labels}

    def metric(self) -> ToyMetric:
        return ToyMetric()

    def assets(self) -> dict[str, str]:
        return {"words.json": json.dumps(["pad", "one", "two"])}

    def architecture(self) -> dict[str, Any]:
        return {"hidden_size": 8, "dropout": 0.5}


def troubled(trouble: Callable[[int, Tensor], Tensor]) -> type[ToyJob]:
    """A toy job whose training loss passes through `trouble(step, loss)`, steps counted from 1."""
    return type("TroubledJob", (ToyJob,), {"trouble": staticmethod(trouble)})
