"""Labelled files to encoded examples on disk."""

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import compress, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from penstock.data.batches import pad
from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.data.split import stratified_split
from penstock.data.vectors import starting_embedding
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
    labels, ids = _labels(encoder, config)
    held = _held_out(config, ids)
    encoder.fit(item.input for item in compress(encoder.read(config.data, config.label), ~held))

    parts = ("dev" if out else "train" for out in held)
    write(
        folder, encoder, labels, config.data, zip(parts, encoder.read(config.data, config.label), strict=True)
    )
    for part, path in (("dev", config.dev), ("test", config.test)):
        if path is not None:
            items = zip(repeat(part), encoder.read(path, config.label), strict=False)
            write(folder, encoder, labels, path, items)
    for name, text in {**encoder.assets(), "labels.json": labels.to_json()}.items():
        (folder / name).write_text(text, encoding="utf-8")
    if config.vectors is not None:
        np.save(folder / "vectors.npy", _vectors(config, encoder))


def _labels(encoder: Encoder, config: Config) -> tuple[Labels, NDArray[np.int64]]:
    """The labels of the training file, and the label id of each of its examples."""
    seen: dict[str, int] = {}
    found = array("q")
    for item in encoder.read(config.data, config.label):
        assert item.label is not None
        found.append(seen.setdefault(item.label, len(seen)))
    labels = Labels.collect(seen, f"{config.data}, column {config.label!r}")
    ids = np.array([labels.id(name, str(config.data), 0) for name in seen])
    return labels, ids[np.array(found)]


def _held_out(config: Config, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which examples of the training file are dev data."""
    held = np.zeros(len(ids), bool)
    if config.dev is None:
        try:
            held[stratified_split(ids, config.dev_fraction, config.seed)[1]] = True
        except InputError as error:
            raise InputError(f"{config.data}: {error}; give --dev FILE") from None
    return held


def write(
    folder: Path, encoder: Encoder, labels: Labels, path: Path, items: Iterable[tuple[str, Item]]
) -> None:
    """Encode labelled items of the file `path`, each with its part's name, into the files of `Examples`.

    Raises:
        InputError: a label is unknown; names `path` and the line.
    """
    writers: dict[str, RaggedWriter] = {}
    ids: dict[str, array[int]] = {}
    with ExitStack() as stack:
        for chunk in chunks(items, _CHUNK):
            rows = encoder.encode([item.input for _, item in chunk])
            for (part, item), row in zip(chunk, rows, strict=True):
                if part not in writers:
                    writer = RaggedWriter(folder / f"{part}.rows", encoder.dtype, encoder.width)
                    writers[part] = stack.enter_context(writer)
                    ids[part] = array("q")
                writers[part].append(row)
                ids[part].append(labels.id(item.label or "", str(path), item.line))
    for part, values in ids.items():
        np.save(folder / f"{part}.labels.npy", np.array(values))


def collate(rows: list[NDArray[Any]]) -> dict[str, Tensor]:
    """Pad rows into "inputs", with "lengths"; a token row is padded with 0, the id of `<pad>`."""
    inputs, lengths = pad(rows)
    return {"inputs": inputs, "lengths": lengths}


def _vectors(config: Config, encoder: Encoder) -> NDArray[np.float32]:
    """The embedding to start from, (V, D)."""
    assert config.vectors is not None
    if not isinstance(encoder, TextEncoder) or config.tokenizer in ("bpe", "byte"):
        raise InputError(f"--vectors {config.vectors}: only texts cut into words or characters have vectors")
    return starting_embedding(config.vectors, encoder.tokens(), config.seed)
