"""Labelled files to encoded examples on disk."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from penstock.data.batches import pad
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.data.split import stratified_split
from penstock.data.vectors import read_vectors
from penstock.data.vocabulary import Labels
from penstock.errors import InputError
from penstock.tasks.classify.config import Config
from penstock.tasks.classify.encoders import Encoder, Item, TextEncoder, plan
from penstock.tasks.streams import chunks

_CHUNK = 1024  # examples encoded at a time


class Examples:
    """Encoded examples: `examples[i]` is a row, int32 (n,) or float32 (n, D), and its label's id.

    Args:
        folder: where `write` put them.
        part: "train", "dev" or "test".
    """

    def __init__(self, folder: Path, part: str) -> None:
        self.rows = RaggedArray(folder / f"{part}.rows")
        self.labels = np.load(folder / f"{part}.labels.npy")

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.rows.lengths

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], int]:
        return self.rows[index], int(self.labels[index])


def prepare(config: Config, folder: Path) -> None:
    """Read all files of a configuration and write examples, labels and encoder to `folder`.

    Raises:
        InputError: whatever is wrong with the files.
    """
    encoder = plan(config)
    names = [item.label or "" for item in encoder.read(config.data, config.label)]
    labels = Labels.collect(names, f"{config.data}, column {config.label!r}")
    parts = _split(config, [labels.id(name, str(config.data), 0) for name in names])
    encoder.fit(item.input for item in compress(encoder.read(config.data, config.label), parts == "train"))

    files = {"train": config.data, "dev": config.dev, "test": config.test}
    for part, path in files.items():
        if path is not None:
            items = encoder.read(path, config.label)
            split = parts.__getitem__ if part == "train" else lambda _, part=part: part
            write(folder, encoder, labels, items, path=path, part=split)
    for name, text in {**encoder.assets(), "labels.json": labels.to_json()}.items():
        (folder / name).write_text(text, encoding="utf-8")
    if config.vectors is not None:
        np.save(folder / "vectors.npy", _vectors(config, encoder))


def _split(config: Config, ids: list[int]) -> NDArray[np.str_]:
    """The part, "train" or "dev", of every example of the training file."""
    parts = np.full(len(ids), "train")
    if config.dev is None:
        try:
            parts[stratified_split(ids, config.dev_fraction, config.seed)[1]] = "dev"
        except InputError as error:
            raise InputError(f"{config.data}: {error}; give --dev FILE") from None
    return parts


def write(
    folder: Path,
    encoder: Encoder,
    labels: Labels,
    items: Iterable[Item],
    *,
    path: Path,
    part: Callable[[int], str],
) -> None:
    """Encode labelled items into the files of `Examples`; `part` says of which part the i-th is.

    Raises:
        InputError: a label is unknown; names `path` and the line.
    """
    writers: dict[str, RaggedWriter] = {}
    ids: dict[str, list[int]] = {}
    number = 0
    with ExitStack() as stack:
        for chunk in chunks(items, _CHUNK):
            for item, row in zip(chunk, encoder.encode([item.input for item in chunk]), strict=True):
                name = str(part(number))
                if name not in writers:
                    writer = RaggedWriter(folder / f"{name}.rows", encoder.dtype, encoder.width)
                    writers[name] = stack.enter_context(writer)
                writers[name].append(row)
                ids.setdefault(name, []).append(labels.id(item.label or "", str(path), item.line))
                number += 1
    for name, values in ids.items():
        np.save(folder / f"{name}.labels.npy", np.array(values, np.int64))


def collate(rows: list[NDArray[Any]]) -> dict[str, Tensor]:
    """Pad rows into "inputs", with "lengths"; a token row is padded with 0, the id of `<pad>`."""
    inputs, lengths = pad(rows)
    return {"inputs": inputs, "lengths": lengths}


def _vectors(config: Config, encoder: Encoder) -> NDArray[np.float32]:
    """The embedding to start from, (V, D): pretrained where there is a vector, else random like those."""
    assert config.vectors is not None
    if not isinstance(encoder, TextEncoder) or config.tokenizer == "bpe":
        raise InputError(f"--vectors {config.vectors}: only texts cut into words or characters have vectors")
    vectors = read_vectors(config.vectors, encoder.tokens())
    if not vectors.found.any():
        raise InputError(f"{config.vectors}: none of the {encoder.input_size} tokens has a vector there")
    matrix = np.random.default_rng(config.seed).normal(
        0, vectors.matrix[vectors.found].std(), vectors.matrix.shape
    )
    matrix[vectors.found] = vectors.matrix[vectors.found]
    return matrix.astype(np.float32)
