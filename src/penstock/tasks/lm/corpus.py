"""From the user's files to tokens on disk: what is read, where it is cut into parts, how it is encoded.

A text is read in pieces, so it may be larger than memory: once to count its characters if parts of it are
held out, once to learn the vocabulary, once to encode all parts.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from penstock.data.lines import find_files, read_text
from penstock.data.table import is_table, read_rows
from penstock.errors import InputError
from penstock.tasks.lm.codec import Codec, learn, whole_words
from penstock.tasks.lm.config import Config
from penstock.tasks.lm.data import Size, tokens_file, write_sizes


class Text:
    """Files that are read one after the other as one text, in pieces.

    A file that is a table gives the texts of one column, each with an end of line after it.

    Args:
        paths: files, folders and patterns, as `find_files` takes them.
        column: of tables; None to read them as they stand.
    """

    def __init__(self, paths: Sequence[Path], column: str | None = None) -> None:
        self.files = find_files(paths)
        self._column = column

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(map(self._pieces, self.files))

    def __str__(self) -> str:
        return ", ".join(map(str, self.files))

    def check_column(self) -> None:
        """Raise InputError for a column that no file can have."""
        if self._column is not None and not any(map(is_table, self.files)):
            raise InputError(
                f"--text {self._column}: expected a table, whose name ends in .csv, .tsv, .jsonl or .parquet "
                f"(or these and .gz), got {self}"
            )

    def _pieces(self, file: Path) -> Iterator[str]:
        if self._column is not None and is_table(file):
            return (f"{row.values[self._column]}\n" for row in read_rows(file, [self._column]))
        if file.name.lower().removesuffix(".gz").endswith(".parquet"):
            raise InputError(f"{file}: a Parquet file needs --text, the column with the text")
        return read_text(file)


class Edge(NamedTuple):
    """Where a part of a text ends: its name, and the number of characters up to there."""

    part: str
    stop: float


def cut(pieces: Iterable[str], edges: Sequence[Edge], at_spaces: bool) -> Iterator[tuple[str, str]]:
    """A text in pieces, each with the name of its part.

    Args:
        pieces: of the text.
        edges: of its parts, in order; the last one has no end.
        at_spaces: move each edge on to behind the next white space.
    """
    position = 0
    ends = iter(edges)
    part, stop = next(ends)
    for piece in whole_words(pieces) if at_spaces else pieces:
        rest = piece
        while position + len(rest) > stop:
            place = _place(rest, max(0, int(stop) - position), at_spaces)
            if place:
                yield part, rest[:place]
            position, rest = position + place, rest[place:]
            part, stop = next(ends)
        if rest:
            yield part, rest
        position += len(rest)


def _place(piece: str, place: int, at_spaces: bool) -> int:
    """Where to cut a piece that is to be cut at `place`."""
    if not at_spaces or not place:
        return place
    space = re.compile(r"\s").search(piece, place)
    return space.end() if space else len(piece)


def prepare(config: Config, folder: Path) -> None:
    """Read all files of a configuration and write the codec's assets and the tokens of all parts to `folder`.

    Raises:
        InputError: whatever is wrong in a file, a text that is too short, or cut-offs beyond the vocabulary.
    """
    text = Text(config.data, config.text)
    text.check_column()
    edges = _edges(config, text)
    at_spaces = config.level in ("word", "bpe")
    train = itertools.takewhile(lambda piece: piece[0] == "train", cut(text, edges, at_spaces))
    codec = learn(config.level, map(itemgetter(1), train), config.vocabulary_size, config.min_frequency)
    if config.adaptive_softmax and config.adaptive_softmax[-1] >= len(codec):
        raise InputError(
            f"--adaptive-softmax: expected cut-offs below the {len(codec)} tokens of the vocabulary, "
            f"got {config.adaptive_softmax[-1]}"
        )
    for name, asset in codec.assets().items():
        (folder / name).write_text(asset, encoding="utf-8")

    parts = itertools.groupby(cut(text, edges, at_spaces), itemgetter(0))
    sizes = {name: encode(folder, name, codec, map(itemgetter(1), pieces)) for name, pieces in parts}
    sources = dict.fromkeys((edge.part for edge in edges), text)
    for name, file in {"dev": config.dev, "test": config.test}.items():
        if file:
            sources[name] = Text([file], config.text)
            sizes[name] = encode(folder, name, codec, sources[name])
    _check_sizes(sizes, sources, least=max(2, config.processes * config.nodes))
    write_sizes(folder, sizes)


def _edges(config: Config, text: Text) -> list[Edge]:
    """The parts that the text of a configuration is cut into."""
    held = config.test_fraction + (0 if config.dev else config.dev_fraction)
    total = sum(map(len, text)) if held else 0
    edges = [Edge("train", int(total * (1 - held)))]
    if not config.dev:
        edges.append(Edge("dev", int(total * (1 - config.test_fraction))))
    if config.test_fraction:
        edges.append(Edge("test", total))
    return [*edges[:-1], edges[-1]._replace(stop=math.inf)]


def _check_sizes(sizes: dict[str, Size], sources: dict[str, Text], least: int) -> None:
    """Raise InputError for a part with fewer than `least` tokens."""
    for name, source in sources.items():
        tokens = sizes[name].tokens if name in sizes else 0
        if tokens < least:
            raise InputError(
                f"{source}: the {name} text is too short, expected at least {least} tokens, got {tokens}"
            )


def encode(folder: Path, name: str, codec: Codec, pieces: Iterable[str]) -> Size:
    """Write the tokens of a text to a file of `penstock.tasks.lm.data.TextData`.

    Raises:
        InputError: whatever is wrong in the files that the pieces come from.
    """
    dtype = "uint16" if len(codec) <= 1 << 16 else "uint32"
    count = _Count(pieces)
    tokens = 0
    with tokens_file(folder, name).open("wb") as file:
        for ids in codec.encode_stream(count):
            file.write(ids.astype(dtype).tobytes())
            tokens += len(ids)
    return Size(tokens, count.characters, dtype)


class _Count:
    """Pieces of text, whose characters are counted as they pass."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = pieces
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            self.characters += len(piece)
            yield piece
