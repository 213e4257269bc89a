"""A saved classifier at work: predict for texts and series, measure on labelled files."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from penstock.data.batches import TokenBatchSampler
from penstock.data.lines import read_lines
from penstock.data.table import is_table
from penstock.data.vocabulary import Labels
from penstock.errors import InputError
from penstock.tasks.classify.config import Config, EvaluateOptions, PredictOptions
from penstock.tasks.classify.data import Examples, collate, write
from penstock.tasks.classify.encoders import Encoder, Item, load
from penstock.tasks.classify.model import Classifier
from penstock.tasks.streams import chunks, stdin_lines
from penstock.training.device import choose_device, use_threads
from penstock.training.measure import measure, to_device
from penstock.training.saved import SavedModel, read_model

_CHUNK = 512  # inputs predicted at a time: sorted by length among themselves, given back in order


class Predictor:
    """A trained classifier.

    Args:
        folder: of the saved model.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; None for all that torch may use.
        batch_tokens: steps in a batch, padding included.

    Attributes:
        labels: their names, in the order of the probabilities.

    Raises:
        InputError: whatever is wrong with the folder.
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", threads: int | None = None, batch_tokens: int = 16_384
    ) -> None:
        saved = read_model(folder, task="classify")
        self.config = saved.parse_config(Config)
        self.device = choose_device(device)
        self.threads = threads
        self.batch_tokens = batch_tokens
        self._encoder = load(saved.architecture.get("kind", ""), saved.assets, self.config, saved.folder)
        self._labels = Labels.from_json(saved.assets["labels.json"], str(saved.folder / "labels.json"))
        self.labels = list(self._labels)
        _check_sizes(saved, self._encoder, self._labels)
        self.model = saved.build(Classifier, self.config)

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Label texts, or series of shape (T, D).

        Args:
            inputs: any number, of any lengths.

        Returns:
            for each, in order: "label", its "probability", and "probabilities" (label -> probability).
        """
        if isinstance(inputs, str):
            raise TypeError("inputs: expected a list of texts, got one text; put it in a list")
        with use_threads(self.threads):
            return [answer for chunk in chunks(inputs, _CHUNK) for answer in self._answers(chunk)]

    def stream(self, options: PredictOptions) -> Iterator[str]:
        """The lines that `penstock predict` writes: one JSON object an input, in order, as they come."""
        text = self._encoder.kind != "series"
        with use_threads(self.threads):
            for items in self._chunks(options):
                for item, answer in zip(items, self._answers([item.input for item in items]), strict=True):
                    name = {"text": item.input} if text else {"id": item.id}
                    yield json.dumps({**name, **answer}, ensure_ascii=False)

    def evaluate(self, options: EvaluateOptions) -> dict[str, Any]:
        """Measure on a labelled file; see `penstock.tasks.classify.evaluate`."""
        from penstock.tasks.classify.metrics import ClassifyMetric, describe  # noqa: PLC0415  (slow to import)

        label = options.label or self.config.label
        with TemporaryDirectory(prefix="penstock-") as name, use_threads(self.threads):
            items = zip(repeat("data"), self._encoder.read(options.data, label, options), strict=False)
            write(Path(name), self._encoder, self._labels, options.data, items)
            examples = Examples(Path(name), "data")
            sampler = TokenBatchSampler(examples.lengths, self.batch_tokens, shuffle=False)
            loader = DataLoader(
                examples,  # pyright: ignore[reportArgumentType]  (any object with length and items will do)
                batch_sampler=sampler,
                collate_fn=_collate_labelled,
            )
            metric = ClassifyMetric(len(self.labels), detailed=True)
            return describe(measure(self.model, metric, loader, self.device), self._labels)

    def _chunks(self, options: PredictOptions) -> Iterator[list[Item]]:
        if options.inputs and options.input:
            raise InputError(f"--input {options.input}: give either a file or inputs as arguments, not both")
        if self._encoder.kind == "series" and options.input is None:
            raise InputError("a classifier of series reads a file: give --input FILE")
        if options.inputs:
            yield [Item(text, None, 0) for text in options.inputs]
        elif options.input is None:
            yield from ([Item(text, None, line) for line, text in lines] for lines in stdin_lines())
        elif self._encoder.kind == "series" or is_table(options.input):
            yield from chunks(self._encoder.read(options.input, None, options), _CHUNK)
        else:
            yield from chunks((Item(text, None, line) for line, text in read_lines(options.input)), _CHUNK)

    @torch.no_grad()
    def _answers(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        rows = self._encoder.encode(inputs)
        probabilities = torch.empty(len(rows), len(self.labels))
        sampler = TokenBatchSampler([len(row) for row in rows], self.batch_tokens, shuffle=False)
        self.model.to(self.device).eval()
        for indices in sampler:
            batch = to_device(collate([rows[i] for i in indices]), self.device)
            probabilities[indices] = self.model(batch).softmax(1).cpu()
        return [self._answer(row) for row in probabilities]

    def _answer(self, probabilities: Tensor) -> dict[str, Any]:
        best = int(probabilities.argmax())
        values = [round(float(value), 6) for value in probabilities]
        return {
            "label": self.labels[best],
            "probability": values[best],
            "probabilities": dict(zip(self.labels, values, strict=True)),
        }


def _check_sizes(saved: SavedModel, encoder: Encoder, labels: Labels) -> None:
    """Raise InputError if labels or vocabulary are those of another model."""
    sizes = {
        "classes": ("labels.json", "labels", len(labels)),
        "input_size": (next(iter(encoder.files), "config.json"), "inputs", encoder.input_size),
    }
    for key, (name, what, found) in sizes.items():
        expected = saved.architecture.get(key)
        if found != expected:
            path = saved.folder / name
            raise InputError(f"{path}: expected the {expected} {what} of the model, got {found}")


def _collate_labelled(examples: Iterable[tuple[Any, int]]) -> dict[str, Tensor]:
    rows, labels = zip(*examples, strict=True)
    return {**collate(list(rows)), "labels": torch.tensor(labels)}
