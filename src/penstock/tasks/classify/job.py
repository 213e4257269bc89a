"""Classification as a training job."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penstock.data.vocabulary import Labels
from penstock.tasks.classify import data
from penstock.tasks.classify.config import Config
from penstock.tasks.classify.data import Examples, collate
from penstock.tasks.classify.encoders import load
from penstock.tasks.classify.metrics import ClassifyMetric
from penstock.tasks.classify.model import Classifier, TokenInput
from penstock.tasks.job import SequenceJob
from penstock.tasks.pretrained import Pretrained


class ClassifyJob(SequenceJob):
    """One label for every text or series of a file."""

    task = "classify"
    monitor = "accuracy"

    @classmethod
    def resolve(cls, config: Config) -> Config:
        if config.init_from is None:
            return config
        start = Pretrained(config.init_from)
        return start.take_over(
            config,
            tokenizer=start.config.level,
            vocabulary=len(start.codec),
            min_frequency=start.config.min_frequency,
            lowercase=False,
        )

    @classmethod
    def prepare(cls, config: Config, folder: Path) -> None:
        data.prepare(config, folder)

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._assets = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
        self.kind = "language" if config.init_from else "text" if config.text else "series"
        self.encoder = load(self.kind, self._assets, config, folder)
        self.labels = Labels.from_json(self._assets["labels.json"])
        self.train_data = Examples(folder, "train")
        self.dev_data = Examples(folder, "dev")
        self.test_data = Examples(folder, "test") if config.test else None
        vectors = np.load(folder / "vectors.npy") if config.vectors else None
        self.embedding_size = config.embedding_size if vectors is None else vectors.shape[1]
        self.model = Classifier(config, **self.architecture())
        if vectors is not None and isinstance(self.model.input, TokenInput):
            self.model.input.start_from(torch.from_numpy(vectors), config.freeze_vectors)
        if config.init_from and isinstance(self.model.input, TokenInput):
            Pretrained(config.init_from).start(self.model.input.embedding, self.model.recurrent)

    def collate(self, examples: list[tuple[NDArray[Any], int]]) -> dict[str, Tensor]:
        batch = collate([row for row, _ in examples])
        return {**batch, "labels": torch.tensor([label for _, label in examples])}

    def metric(self) -> ClassifyMetric:
        return ClassifyMetric(len(self.labels))

    def assets(self) -> dict[str, str]:
        return self._assets

    def architecture(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "input_size": self.encoder.input_size,
            "embedding_size": self.embedding_size,
            "classes": len(self.labels),
        }
