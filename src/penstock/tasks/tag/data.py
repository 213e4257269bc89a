"""Tagged sentences to encoded examples on disk, and from there to batches.

A form is a token as it is spelled. Each distinct form is encoded once, as one row: the id of its word, then
the ids of its characters. A sentence is a row of form numbers, so that a batch spells out each form once.

Dimensions: B batch, T time, U distinct forms of a batch, C characters.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.batches import pad
from penstock.data.conll import Sentence, read_sentences
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.data.split import stratified_split
from penstock.data.vectors import starting_embedding
from penstock.data.vocabulary import PAD_ID, Labels, Vocabulary
from penstock.errors import InputError
from penstock.tasks.pretrained import Pretrained
from penstock.tasks.tag.config import Config
from penstock.tasks.tag.spans import Scheme, detect_scheme, parse
from penstock.training.job import Batch

PARTS = ("train", "dev", "test")
# Files of the prepared folder, beside those of the parts and the assets.
FORMS, FREQUENCY, VECTORS, SCHEME = "forms.rows", "frequency.npy", "vectors.npy", "scheme"

# A character of the training text that occurs less often shares the id of those never seen.
_CHARACTER_FREQUENCY = 2


class Encoder:
    """Tokens to numbers, and labels to numbers and back.

    Attributes:
        words, characters: the vocabularies.
        labels: the K labels.
    """

    def __init__(self, words: Vocabulary, characters: Vocabulary, labels: Labels, config: Config) -> None:
        self.words = words
        self.characters = characters
        self.labels = labels
        self._lowercase = config.lowercase
        self._longest = config.longest_word

    @classmethod
    def learn(cls, config: Config, forms: Counter[str], labels: Iterable[str]) -> Self:
        """The vocabularies of the training data, from how often each form occurs, and the labels.

        The words are those of the language model, where the tagger starts from one.
        """
        folded = (form.lower() if config.lowercase else form for form in forms.elements())
        letters = (letter for form in forms.elements() for letter in form)
        start = Pretrained(config.init_from) if config.init_from else None
        return cls(
            start.words if start else Vocabulary.build(folded, config.min_frequency),
            Vocabulary.build(letters, _CHARACTER_FREQUENCY),
            Labels.collect(labels, _names(config)),
            config,
        )

    def form(self, token: str) -> NDArray[np.int32]:
        """A form's row: the id of its word, then those of its characters, int32 (1 + C,)."""
        word = token.lower() if self._lowercase else token
        if len(token) > self._longest:
            tail = self._longest // 2
            token = token[: self._longest - tail] + token[-tail:]
        return np.concatenate([self.words.ids([word]), self.characters.ids(token)])

    def assets(self) -> dict[str, str]:
        """File name -> text of what `load` needs."""
        return {
            "words.json": self.words.to_json(),
            "characters.json": self.characters.to_json(),
            "labels.json": self.labels.to_json(),
        }

    @classmethod
    def load(cls, assets: Mapping[str, str], config: Config, source: Path) -> Self:
        """The encoder whose `assets` these are; `source` is their folder, for errors."""

        def text(name: str) -> tuple[str, str]:
            return assets[name], str(source / name)

        return cls(
            Vocabulary.from_json(*text("words.json")),
            Vocabulary.from_json(*text("characters.json")),
            Labels.from_json(*text("labels.json")),
            config,
        )


class Lexicon:
    """Numbers the distinct forms in the order they are met, and hands each new one to `add` once, encoded."""

    def __init__(self, encoder: Encoder, add: Callable[[NDArray[np.int32]], None]) -> None:
        self.encoder = encoder
        self._add = add
        self._numbers: dict[str, int] = {}

    def numbers(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """The form numbers of a sentence, int32 (T,)."""
        return np.array([self._number(token) for token in tokens], np.int32)

    def _number(self, token: str) -> int:
        number = self._numbers.get(token)
        if number is None:
            number = self._numbers[token] = len(self._numbers)
            self._add(self.encoder.form(token))
        return number


class Example(NamedTuple):
    """One encoded sentence."""

    forms: NDArray[np.int32]  # (T,)
    labels: NDArray[np.int32]  # (T,)


class TagData:
    """The encoded sentences of one part, read from disk one by one.

    Attributes:
        lengths: tokens of every sentence, int64 (N,).
    """

    def __init__(self, folder: Path, part: str) -> None:
        self._forms = RaggedArray(folder / f"{part}.tokens")
        self._labels = RaggedArray(folder / f"{part}.labels")
        self.lengths = self._forms.lengths

    def __len__(self) -> int:
        return len(self._forms)

    def __getitem__(self, index: int, /) -> Example:
        return Example(self._forms[index], self._labels[index])


def prepare(config: Config, folder: Path) -> None:
    """Read all files of a configuration and write vocabularies, label scheme and sentences to `folder`.

    Raises:
        InputError: whatever is wrong in a file, naming its line.
    """
    held = _held_out(config)
    forms, pairs = _count(config, held)
    encoder = Encoder.learn(config, forms, [label for _, label in pairs])
    for name, text in encoder.assets().items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / SCHEME).write_text(json.dumps(_scheme(config, pairs)), encoding="utf-8")
    np.save(folder / FREQUENCY, _frequency(encoder, forms))
    if config.vectors is not None:
        np.save(folder / VECTORS, starting_embedding(config.vectors, list(encoder.words), config.seed))
    with RaggedWriter(folder / FORMS) as rows:
        lexicon = Lexicon(encoder, rows.append)
        for part in PARTS:
            sentences = _sentences(config, part, held)
            if sentences is not None:
                write(folder, part, sentences, lexicon)


def _frequency(encoder: Encoder, forms: Counter[str]) -> NDArray[np.float32]:
    """How often each word of the vocabulary occurs in the training sentences, float32 (V,)."""
    frequency = np.zeros(len(encoder.words), np.float32)
    for form, count in forms.items():
        frequency[encoder.form(form)[0]] += count
    return frequency


def _scheme(config: Config, pairs: Counter[tuple[str, str]]) -> Scheme | None:
    if config.scheme == "auto":
        return detect_scheme(pairs)
    if config.scheme == "none":
        return None
    for _, label in pairs:
        if parse(label) is None:
            raise InputError(
                f"--scheme {config.scheme}: expected labels of spans (O, or B, I, M, E, L, S or U and a "
                f"type), got {label!r} in {_names(config)}"
            )
    return config.scheme


def _held_out(config: Config) -> NDArray[np.bool_] | None:
    """Which sentences of DATA are dev data, bool (N,); None where there is a dev file."""
    if config.dev:
        return None
    count = sum(1 for _ in _training(config))
    held = np.zeros(count, bool)
    held[stratified_split(held, config.dev_fraction, config.seed)[1]] = True
    return held


def _count(config: Config, held: NDArray[np.bool_] | None) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Count the forms of the training sentences, and the pairs of neighbouring labels.

    The labels of held-out sentences count too: which sentences are held out must not decide what is a label.
    """
    forms: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for number, (_, sentence) in enumerate(_training(config)):
        tags = _tags(sentence)
        pairs.update(zip(["O", *tags], tags, strict=False))
        if held is None or not held[number]:
            forms.update(sentence.tokens)
    return forms, pairs


def _sentences(
    config: Config, part: str, held: NDArray[np.bool_] | None
) -> Iterator[tuple[Path, Sentence]] | None:
    """The sentences of a part and the file they come from, or None if there is no such part."""
    path = {"train": None, "dev": config.dev, "test": config.test}[part]
    if path is not None:
        return _read(config, path)
    if part == "test":
        return None
    if held is None:
        return _training(config)
    return (pair for pair, out in zip(_training(config), held, strict=True) if out == (part == "dev"))


def _training(config: Config) -> Iterator[tuple[Path, Sentence]]:
    """The sentences of DATA, file after file, each with the file it comes from."""
    for path in config.data:
        yield from _read(config, path)


def _read(config: Config, path: Path) -> Iterator[tuple[Path, Sentence]]:
    return ((path, sentence) for sentence in read_sentences(path, config.token_column, config.column))


def _names(config: Config) -> str:
    return ", ".join(map(str, config.data))


def _tags(sentence: Sentence) -> list[str]:
    assert sentence.tags is not None, "read with tags"
    return sentence.tags


def write(folder: Path, part: str, sentences: Iterable[tuple[Path, Sentence]], lexicon: Lexicon) -> None:
    """Encode tagged sentences into the files of `TagData`.

    Args:
        folder: of the files.
        part: "train", "dev" or "test".
        sentences: each with the file it comes from.
        lexicon: which is handed the forms that are new.

    Raises:
        InputError: a label is unknown; names file and line.
    """
    labels = lexicon.encoder.labels
    with (
        RaggedWriter(folder / f"{part}.tokens") as tokens,
        RaggedWriter(folder / f"{part}.labels") as answers,
    ):
        for path, sentence in sentences:
            tokens.append(lexicon.numbers(sentence.tokens))
            pairs = zip(_tags(sentence), sentence.lines, strict=True)
            answers.append(np.array([labels.id(tag, str(path), line) for tag, line in pairs], np.int32))


def collate(
    sentences: Sequence[NDArray[np.int32]], forms: Sequence[NDArray[np.int32]] | RaggedArray
) -> Batch:
    """Pad sentences to a batch.

    Args:
        sentences: the form numbers of B sentences, each at least one.
        forms: the rows of all forms.

    Returns:
        "lengths" (B,); "words" (B, T); "forms" (B, T), which row of characters spells a token; and
        "characters" (U, C) with "character_lengths" (U,), each distinct form of the batch once. All int64, 0
        beyond a length.
    """
    distinct, places = np.unique(np.concatenate(sentences), return_inverse=True)
    rows: list[NDArray[Any]] = [forms[number] for number in distinct]
    spelled, lengths = pad(np.split(places, np.cumsum([len(sentence) for sentence in sentences])[:-1]))
    inside = torch.arange(spelled.shape[1]) < lengths[:, None]
    words = torch.tensor([int(row[0]) for row in rows])[spelled].where(inside, PAD_ID)
    characters, character_lengths = pad([row[1:] for row in rows])
    return {
        "lengths": lengths,
        "words": words,
        "forms": spelled,
        "characters": characters,
        "character_lengths": character_lengths,
    }


def collate_labelled(examples: Sequence[Example], forms: RaggedArray) -> Batch:
    """The same with "labels", int64 (B, T)."""
    labels, _ = pad([example.labels for example in examples])
    return {**collate([example.forms for example in examples], forms), "labels": labels}
