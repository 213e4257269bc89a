"""Language modelling as a training job."""

from pathlib import Path
from typing import Any

from penstock.tasks.lm import codec, corpus, data
from penstock.tasks.lm.config import Config
from penstock.tasks.lm.data import Example, StreamSampler, TextData, measuring_rows, training_rows
from penstock.tasks.lm.metrics import LmMetric
from penstock.tasks.lm.model import LanguageModel
from penstock.training.job import Batch, Job, SequenceDataset


class LmJob(Job):
    """The next token of a text, from all before it.

    The best epoch has the lowest perplexity.
    """

    task = "lm"
    monitor = "perplexity"
    lower_is_better = True
    in_order = True

    @classmethod
    def prepare(cls, config: Config, folder: Path) -> None:
        corpus.prepare(config, folder)

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self._assets = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
        self._tokens = len(codec.load(config.level, self._assets, folder))
        self.train_data = TextData(folder, "train")
        self.dev_data = TextData(folder, "dev")
        self.test_data = TextData(folder, "test") if config.test or config.test_fraction else None
        self.model = LanguageModel(config, **self.architecture())

    def batches(self, data: SequenceDataset, *, shuffle: bool, rank: int, world_size: int) -> StreamSampler:
        config, tokens = self.config, len(data)
        assert isinstance(config, Config)
        if shuffle:
            rows = training_rows(tokens, config, world_size)
        else:
            rows = measuring_rows(tokens, config.window, config.batch_tokens, world_size)
        return StreamSampler(
            tokens, rows, config.window, shuffle=shuffle, seed=config.seed, rank=rank, world_size=world_size
        )

    def collate(self, examples: list[Example]) -> Batch:
        return data.collate(examples)

    def metric(self) -> LmMetric:
        return LmMetric()

    def assets(self) -> dict[str, str]:
        return self._assets

    def architecture(self) -> dict[str, Any]:
        return {"tokens": self._tokens}
