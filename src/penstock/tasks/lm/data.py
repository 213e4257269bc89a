"""Text files to one flat file of tokens a part, and from there to batches of parallel streams.

A text of N tokens is cut into B streams of equal length, the rows of every batch. A batch holds the next
window of each stream, in order, so that the state of a row after one batch is its state before the next.

Dimensions: B batch (streams), T time (at most the window), N tokens of a text.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.batches import pad
from penstock.data.lines import find_files, read_text
from penstock.data.vocabulary import PAD_ID
from penstock.errors import InputError
from penstock.tasks.lm.codec import Codec, learn, whole_words
from penstock.tasks.lm.config import Config
from penstock.training.job import Batch

IGNORED = -100  # a target that is not there
_SIZES = "sizes"  # file of the prepared folder: tokens and characters of every part
_SHORTEST_STREAM = 1024  # tokens of a stream that is measured: each costs a window of warming up


class Window(NamedTuple):
    """Some steps of a stream.

    Attributes:
        first: place in the text of the first token to predict; a text goes on at its beginning.
        steps: how many, 0 or more.
        begins: whether the state starts anew here.
        counted: whether the predictions count, or only warm up the state.
    """

    first: int
    steps: int
    begins: bool
    counted: bool = True


class Example(NamedTuple):
    """A window with its tokens."""

    inputs: NDArray[np.int64]  # (T,): each token's predecessor, <pad> where there is none
    targets: NDArray[np.int64]  # (T,)
    begins: bool
    characters: float  # that the targets stand for


class TextData:
    """The tokens of one part of the text, read from disk window by window.

    Attributes:
        lengths: the number of tokens, int64 (1,).
        characters: that they stand for.
    """

    def __init__(self, folder: Path, part: str) -> None:
        sizes = json.loads((folder / _SIZES).read_text(encoding="utf-8"))[part]
        self.characters: int = sizes["characters"]
        self.lengths = np.array([sizes["tokens"]], np.int64)
        self._tokens = np.memmap(_path(folder, part), sizes["dtype"], mode="r")

    def __len__(self) -> int:
        return int(self.lengths[0])

    def __getitem__(self, window: Window, /) -> Example:
        places = (window.first + np.arange(-1, window.steps)) % len(self)
        tokens = self._tokens[places].astype(np.int64)
        tokens_before = np.where(places[1:] == 0, PAD_ID, tokens[:-1])
        if window.begins:
            tokens_before[:1] = PAD_ID
        targets = tokens[1:] if window.counted else np.full(window.steps, IGNORED)
        counted = window.steps if window.counted else 0
        return Example(tokens_before, targets, window.begins, counted * self.characters / len(self))


class StreamSampler:
    """The batches of an epoch, in order: lists of windows, one for each of this process's streams.

    Every token is predicted once in an epoch over all processes together, and every process gets the same
    number of batches. With `shuffle`, each epoch cuts the text at other places: its streams begin at a place
    drawn from seed and epoch, and go on from the end of the text to its beginning. Without it the first
    stream begins with the text, and the others warm up, uncounted, on the window before theirs.

    Args:
        tokens: N.
        rows: streams of all processes together, from `world_size` to N; fewer if the last would be empty.
        window: steps of a batch.
        shuffle, seed, rank, world_size: see above.
    """

    def __init__(
        self, tokens: int, rows: int, window: int, *, shuffle: bool, seed: int = 0, rank: int = 0,
        world_size: int = 1,
    ) -> None:  # fmt: skip
        if not world_size <= rows <= tokens:
            raise ValueError(f"rows: expected {world_size} (processes) to {tokens} (tokens), got {rows}")
        self.tokens = tokens
        self.window = window
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.steps = math.ceil(tokens / rows)  # of a stream
        self.streams = range(rank, math.ceil(tokens / self.steps), world_size)
        self._warm = 0 if shuffle or rows == 1 else min(window, self.steps)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose cuts the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.steps / self.window) + (self._warm > 0)

    def __iter__(self) -> Iterator[list[Window]]:
        offset = 0
        if self.shuffle:
            offset = int(np.random.default_rng([self.seed, self.epoch]).integers(self.tokens))
        if self._warm:
            yield [self._warming(stream) for stream in self.streams]
        for step in range(0, self.steps, self.window):
            yield [self._window(stream, step, offset) for stream in self.streams]

    def _warming(self, stream: int) -> Window:
        """The window before a stream; nothing before the first."""
        steps = self._warm if stream else 0
        return Window(stream * self.steps - steps, steps, begins=True, counted=False)

    def _window(self, stream: int, step: int, offset: int) -> Window:
        first = stream * self.steps + step
        end = min((stream + 1) * self.steps, self.tokens)
        begins = not step and not (self._warm and stream)
        return Window((first + offset) % self.tokens, max(0, min(self.window, end - first)), begins)


def training_rows(tokens: int, config: Config, world_size: int) -> int:
    """Streams of a text to learn from: as many as asked for, none shorter than the window."""
    most = min(config.batch_rows, max(1, config.batch_tokens // config.window)) * world_size
    return max(world_size, min(most, tokens // config.window))


def measuring_rows(tokens: int, window: int, batch_tokens: int, world_size: int = 1) -> int:
    """Streams of a text to measure on: a short one is a single stream."""
    most = max(1, batch_tokens // window) * world_size
    return max(world_size, min(most, tokens // max(_SHORTEST_STREAM, window)))


def collate(examples: Sequence[Example]) -> Batch:
    """Put windows side by side.

    Returns:
        "inputs" and "targets" (B, T), int64, <pad> and `IGNORED` beyond a window's end; "lengths" (B,);
        "begins" bool (B,), rows whose state starts anew; "characters" float32 (B,), that the targets stand
        for.
    """
    inputs, lengths = pad([example.inputs for example in examples], PAD_ID)
    targets, _ = pad([example.targets for example in examples], IGNORED)
    return {
        "inputs": inputs,
        "targets": targets,
        "lengths": lengths,
        "begins": torch.tensor([example.begins for example in examples]),
        "characters": torch.tensor([example.characters for example in examples]),
    }


def prepare(config: Config, folder: Path) -> None:
    """Read all files of a configuration and write the codec's assets and the tokens of all parts to `folder`.

    Raises:
        InputError: whatever is wrong in a file, or a text that is too short.
    """
    parts = _parts(config)
    codec = learn(config.level, parts["train"].pieces(), config.vocabulary_size, config.min_frequency)
    for name, text in codec.assets().items():
        (folder / name).write_text(text, encoding="utf-8")
    write(folder, codec, parts, least=max(2, config.processes * config.nodes))


class Part:
    """A part of a text: from one character to another of some files that are read one after the other.

    Args:
        files: to read.
        start, stop: the characters; None for the end.
        at_spaces: move both on to behind the next white space.
    """

    def __init__(
        self, files: Sequence[Path], start: int = 0, stop: int | None = None, at_spaces: bool = False
    ) -> None:
        self.files = files
        self._edges = (start, math.inf if stop is None else stop)
        self._at_spaces = at_spaces

    def pieces(self) -> Iterator[str]:
        """The text in pieces."""
        position = 0
        text = _read(self.files)
        for piece in whole_words(text) if self._at_spaces else text:
            first, last = (self._cut(piece, edge - position) for edge in self._edges)
            if first < last:
                yield piece[first:last]
            position += len(piece)

    def _cut(self, piece: str, place: float) -> int:
        if place <= 0 or place >= len(piece):
            return 0 if place <= 0 else len(piece)
        if not self._at_spaces:
            return int(place)
        space = re.compile(r"\s").search(piece, int(place))
        return space.end() if space else len(piece)


def _parts(config: Config) -> dict[str, Part]:
    files = find_files(config.data)
    held = config.test_fraction + (0 if config.dev else config.dev_fraction)
    spaces = config.level in ("word", "bpe")
    total = sum(map(len, _read(files))) if held else 0
    learnt, tested = int(total * (1 - held)), int(total * (1 - config.test_fraction))
    parts = {"train": Part(files, 0, learnt if held else None, spaces)}
    if config.dev:
        parts["dev"] = Part(find_files([config.dev]))
    else:
        parts["dev"] = Part(files, learnt, tested if config.test_fraction else None, spaces)
    if config.test:
        parts["test"] = Part(find_files([config.test]))
    elif config.test_fraction:
        parts["test"] = Part(files, tested, None, spaces)
    return parts


def _read(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        yield from read_text(file)


def write(folder: Path, codec: Codec, parts: dict[str, Part], least: int = 1) -> None:
    """Encode texts into the files of `TextData`.

    Args:
        folder: of the files.
        codec: text to tokens.
        parts: name -> text.
        least: tokens that each must have.

    Raises:
        InputError: whatever is wrong in a file, or a text that is too short.
    """
    dtype = "uint16" if len(codec) <= 1 << 16 else "uint32"
    sizes: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        count = _Count(part.pieces())
        tokens = 0
        with _path(folder, name).open("wb") as file:
            for ids in codec.encode_stream(count):
                file.write(ids.astype(dtype).tobytes())
                tokens += len(ids)
        if tokens < least:
            names = ", ".join(map(str, part.files))
            raise InputError(
                f"{names}: the {name} text is too short, expected at least {least} tokens, got {tokens}"
            )
        sizes[name] = {"tokens": tokens, "characters": count.characters, "dtype": dtype}
    (folder / _SIZES).write_text(json.dumps(sizes), encoding="utf-8")


class _Count:
    """Pieces of text, whose characters are counted as they pass."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = pieces
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self.characters += len(piece)
            yield piece


def _path(folder: Path, part: str) -> Path:
    return folder / f"{part}.tokens"
