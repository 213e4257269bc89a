"""From one flat file of tokens a part to batches of parallel streams.

A text of N tokens is cut into B streams of equal length, the rows of every batch. A batch holds the next
window of each stream, in order, so that the state of a row after one batch is its state before the next.

Dimensions: B batch (streams), T time (at most the window), N tokens of a text.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from penstock.data.batches import pad
from penstock.data.vocabulary import PAD_ID
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


class Size(NamedTuple):
    """How much a part of the text is, and as what type its tokens are stored."""

    tokens: int
    characters: int
    dtype: str


def write_sizes(folder: Path, sizes: dict[str, Size]) -> None:
    """Write what `TextData` needs to know of the parts whose tokens lie in `folder`."""
    (folder / _SIZES).write_text(json.dumps({name: size._asdict() for name, size in sizes.items()}), "utf-8")


def tokens_file(folder: Path, part: str) -> Path:
    """The file of a part's tokens."""
    return folder / f"{part}.tokens"


class TextData:
    """The tokens of one part of the text, read from disk window by window.

    Attributes:
        lengths: the number of tokens, int64 (1,).
        characters: that they stand for.
    """

    def __init__(self, folder: Path, part: str) -> None:
        size = Size(**json.loads((folder / _SIZES).read_text(encoding="utf-8"))[part])
        self.characters = size.characters
        self.lengths = np.array([size.tokens], np.int64)
        self._tokens = np.memmap(tokens_file(folder, part), size.dtype, mode="r")

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
