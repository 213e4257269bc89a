"""What the verbs read and write piece by piece: standard input as it comes, lines as they are ready."""

import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import TypeVar, cast

from penstock.errors import InputError
from penstock.files import atomic_write

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def stdin_lines() -> Iterator[list[tuple[int, str]]]:
    """The numbered lines of standard input (UTF-8), in lists of as many as have arrived.

    A person who types gets an answer to every line; a fast pipe gives many lines at a time.

    Raises:
        InputError: bytes that are not UTF-8, naming the line.
    """
    number, rest = 0, b""
    source = cast(BufferedReader, sys.stdin.buffer)
    while chunk := source.read1(1 << 16):
        *whole, rest = (rest + chunk).split(b"\n")
        if whole:
            yield [(number + i, _decode(line, number + i)) for i, line in enumerate(whole, 1)]
            number += len(whole)
    if rest:
        yield [(number + 1, _decode(rest, number + 1))]


def _decode(line: bytes, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input, line {number}: expected UTF-8, got the byte 0x{line[error.start]:02x}"
        ) from None


class Part(str):
    """A part of a line: what follows it stands in the same line."""

    __slots__ = ()


def write_lines(lines: Iterable[str], output: Path | None) -> None:
    """Write lines to a file, which appears when it is whole, or to standard output, each when it is ready.

    A `Part` is written without an end of line.
    """
    texts = (line if isinstance(line, Part) else line + "\n" for line in lines)
    if output is None:
        for text in texts:
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    with atomic_write(output) as file:
        file.writelines(texts)
