"""Tagging as a training job."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penstock.data.ragged import RaggedArray
from penstock.tasks.job import SequenceJob
from penstock.tasks.pretrained import Pretrained
from penstock.tasks.tag import data
from penstock.tasks.tag.config import Config
from penstock.tasks.tag.data import Encoder, Example, TagData
from penstock.tasks.tag.metrics import TagMetric
from penstock.tasks.tag.model import Tagger
from penstock.training.job import Batch


class TagJob(SequenceJob):
    """One label for every token of a sentence.

    The best epoch has the best span F1, or the best accuracy where labels do not mark spans.
    """

    task = "tag"

    @classmethod
    def resolve(cls, config: Config) -> Config:
        if config.init_from is None:
            return config
        start = Pretrained(config.init_from)
        return start.take_over(config, min_frequency=start.config.min_frequency, lowercase=False)

    @classmethod
    def prepare(cls, config: Config, folder: Path) -> None:
        data.prepare(config, folder)

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._assets = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
        self._encoder = Encoder.load(self._assets, config, folder)
        self._forms = RaggedArray(folder / data.FORMS)
        self._scheme = json.loads((folder / data.SCHEME).read_text(encoding="utf-8"))
        self.monitor = "f1" if self._scheme else "accuracy"
        self.train_data = TagData(folder, "train")
        self.dev_data = TagData(folder, "dev")
        self.test_data = TagData(folder, "test") if config.test else None
        vectors = np.load(folder / data.VECTORS) if config.vectors else None
        self._embedding_size = config.embedding_size if vectors is None else vectors.shape[1]
        model = Tagger(config, **self.architecture())
        model.frequency.copy_(torch.from_numpy(np.load(folder / data.FREQUENCY)))
        if vectors is not None:
            model.start_from(torch.from_numpy(vectors), config.freeze_vectors)
        if config.init_from:
            Pretrained(config.init_from).start(model.word_embedding, model.encoder)
        self.model = model

    def collate(self, examples: list[Example]) -> Batch:
        return data.collate_labelled(examples, self._forms)

    def metric(self) -> TagMetric:
        return TagMetric(list(self._encoder.labels), self._scheme is not None)

    def assets(self) -> dict[str, str]:
        return self._assets

    def architecture(self) -> dict[str, Any]:
        return {
            "words": len(self._encoder.words),
            "characters": len(self._encoder.characters),
            "embedding_size": self._embedding_size,
            "labels": list(self._encoder.labels),
            "scheme": self._scheme,
        }
