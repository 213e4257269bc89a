"""A saved tagger at work: predict for sentences, measure on tagged files."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from penstock.data.batches import TokenBatchSampler
from penstock.data.conll import Sentence, read_sentences
from penstock.data.lines import read_lines
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.errors import InputError
from penstock.tasks.streams import chunks, stdin_lines
from penstock.tasks.tag.config import Config, EvaluateOptions, PredictOptions
from penstock.tasks.tag.data import FORMS, Encoder, Lexicon, TagData, collate, collate_labelled, write
from penstock.tasks.tag.metrics import TagMetric
from penstock.tasks.tag.model import Tagger
from penstock.training.device import choose_device, use_threads
from penstock.training.measure import measure, to_device
from penstock.training.saved import SavedModel, read_model

_CHUNK = 512  # sentences predicted at a time: sorted by length among themselves, given back in order
_STDIN = Path("/dev/stdin")
_Answer = dict[str, list[Any]]


class Predictor:
    """A trained tagger.

    Args:
        folder: of the saved model.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; None for all that torch may use.
        batch_tokens: steps in a batch, padding included.

    Attributes:
        labels: their names.

    Raises:
        InputError: whatever is wrong with the folder.
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", threads: int | None = None, batch_tokens: int = 16_384
    ) -> None:
        saved = read_model(folder, task="tag")
        self.config = saved.parse_config(Config)
        self.device = choose_device(device)
        self.threads = threads
        self.batch_tokens = batch_tokens
        self._encoder = _encoder(saved, self.config)
        self.labels = list(self._encoder.labels)
        self._spans = saved.architecture.get("scheme") is not None
        self.model = saved.build(Tagger, self.config)

    def predict(self, inputs: Sequence[str | Sequence[str]]) -> list[dict[str, list[Any]]]:
        """Tag sentences.

        Args:
            inputs: each a list of tokens, or a text whose tokens stand between white space.

        Returns:
            for each, in order: "tokens", their "tags", and the "probabilities" of these tags.
        """
        if isinstance(inputs, str):
            raise TypeError("inputs: expected a list of sentences, got one text; put it in a list")
        sentences = [text.split() if isinstance(text, str) else list(text) for text in inputs]
        with use_threads(self.threads):
            return [answer for chunk in chunks(sentences, _CHUNK) for answer in self._answers(chunk)]

    def stream(self, options: PredictOptions) -> Iterator[str]:
        """What `penstock predict` writes, in the order of the input, as it comes.

        JSON objects as `predict` returns them, one a line; or, with the format "same", the input's own lines
        with the labels filled in (a token and its label a line where the input had no columns).
        """
        with use_threads(self.threads):
            for items in self._items(options):
                for item, answer in zip(items, self._answers([item.tokens for item in items]), strict=True):
                    yield _written(item, answer, options.format)

    def evaluate(self, options: EvaluateOptions) -> dict[str, Any]:
        """Measure on a tagged file; see `penstock.tasks.tag.evaluate`."""
        sentences = ((options.data, sentence) for sentence in self._read(options.data, options, tags=True))
        with TemporaryDirectory(prefix="penstock-") as name, use_threads(self.threads):
            folder = Path(name)
            with RaggedWriter(folder / FORMS) as rows:
                write(folder, "data", sentences, Lexicon(self._encoder, rows.append))
            examples = TagData(folder, "data")
            loader = DataLoader(
                examples,  # pyright: ignore[reportArgumentType]  (any object with length and items will do)
                batch_sampler=TokenBatchSampler(examples.lengths, self.batch_tokens, shuffle=False),
                collate_fn=partial(collate_labelled, forms=RaggedArray(folder / FORMS)),
            )
            metric = TagMetric(self.labels, self._spans)
            figures = measure(self.model, metric, loader, self.device)
        return {"metrics": {name: float(value) for name, value in figures.items()}, **metric.details()}

    def _read(self, path: Path, options: EvaluateOptions | PredictOptions, tags: bool) -> Iterator[Sentence]:
        """The sentences of a file, its columns being those of training unless `options` name others."""
        token = options.token_column if options.token_column is not None else self.config.token_column
        column = options.column if options.column is not None else self.config.column
        return read_sentences(path, token, column, tags)

    def _items(self, options: PredictOptions) -> "Iterator[list[_Item]]":
        if options.inputs and options.input:
            raise InputError(f"--input {options.input}: give either a file or inputs as arguments, not both")
        if options.inputs:
            yield [_Item(text.split()) for text in options.inputs]
        elif options.layout == "columns" or (options.layout == "auto" and _has_columns(options.input)):
            sentences = self._read(options.input or _STDIN, options, tags=False)
            yield from chunks((_Item(sentence.tokens, sentence) for sentence in sentences), _CHUNK)
        elif options.input is None:
            yield from ([_Item(text.split()) for _, text in lines] for lines in stdin_lines())
        else:
            yield from chunks((_Item(text.split()) for _, text in read_lines(options.input)), _CHUNK)

    def _answers(self, sentences: Sequence[Sequence[str]]) -> list[_Answer]:
        answers: list[_Answer] = [
            {"tokens": list(tokens), "tags": [], "probabilities": []} for tokens in sentences
        ]
        if filled := [answer for answer in answers if answer["tokens"]]:
            self._fill(filled)
        return answers

    @torch.no_grad()
    def _fill(self, answers: list[_Answer]) -> None:
        """Add tags and probabilities to answers that hold tokens, at least one each."""
        forms: list[NDArray[np.int32]] = []
        lexicon = Lexicon(self._encoder, forms.append)
        rows = [lexicon.numbers(answer["tokens"]) for answer in answers]
        self.model.to(self.device).eval()
        for places in TokenBatchSampler([len(row) for row in rows], self.batch_tokens, shuffle=False):
            batch = to_device(collate([rows[place] for place in places], forms), self.device)
            outputs = self.model(batch)
            probabilities = self.model.probabilities(outputs.emissions, batch["lengths"])
            chosen = probabilities.gather(2, outputs.labels[:, :, None])[:, :, 0]
            for place, labels, values in zip(places, outputs.labels.tolist(), chosen.tolist(), strict=True):
                length = len(rows[place])
                answers[place]["tags"] = [self.labels[label] for label in labels[:length]]
                answers[place]["probabilities"] = [round(value, 6) for value in values[:length]]


class _Item(NamedTuple):
    """A sentence to tag, and how it stood in its file if that has columns."""

    tokens: list[str]
    sentence: Sentence | None = None


def _encoder(saved: SavedModel, config: Config) -> Encoder:
    """The encoder of a saved model, of the same sizes as the model."""
    for name in ("words.json", "characters.json", "labels.json"):
        if name not in saved.assets:
            raise InputError(f"{saved.folder / 'config.json'}: 'assets' lacks {name}, which a tagger needs")
    encoder = Encoder.load(saved.assets, config, saved.folder)
    found = {
        "words": len(encoder.words),
        "characters": len(encoder.characters),
        "labels": list(encoder.labels),
    }
    for name, value in found.items():
        expected = saved.architecture.get(name)
        if expected != value:
            raise InputError(
                f"{saved.folder / name}.json: expected the {name} of the model ({expected}), got {value}"
            )
    return encoder


def _has_columns(path: Path | None) -> bool:
    return path is not None and not path.name.lower().removesuffix(".gz").endswith(".txt")


def _written(item: _Item, answer: _Answer, form: str) -> str:
    if form == "jsonl":
        return json.dumps(answer, ensure_ascii=False)
    if item.sentence:
        return item.sentence.with_tags(answer["tags"]).removesuffix("\n")
    return "".join(f"{token}\t{tag}\n" for token, tag in zip(item.tokens, answer["tags"], strict=True))
