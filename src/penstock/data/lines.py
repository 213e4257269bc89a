"""Text files, line by line: the one way text is opened."""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from penstock.errors import InputError

_BOM = b"\xef\xbb\xbf"
# What reading raises where a compressed file is cut off or damaged.
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading bytes, decompressed if its name ends in `.gz`.

    Raises:
        InputError: there is no such file, or it is a folder or unreadable.
    """
    path = Path(path)
    try:
        return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else open(path, "rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, got a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def place(path: str | os.PathLike[str], number: int) -> str:
    """How an error names a line: the file and the line, or for Parquet, which has none, the row; from 1."""
    unit = "row" if Path(path).name.lower().removesuffix(".gz").endswith(".parquet") else "line"
    return f"{path}, {unit} {number}"


def read_lines(path: str | os.PathLike[str], keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) of a UTF-8 text file, which may be gzipped; it is never held in memory.

    Lines end with \\n or \\r\\n, which is stripped unless `keep_ends`. A byte order mark is skipped.

    Raises:
        InputError: no such file, a folder, an empty file, a truncated or damaged .gz, or bytes that are not
            UTF-8; naming file and line.
    """
    number = 0
    with open_bytes(path) as file:
        try:
            for number, raw in enumerate(file, 1):
                line = _decoded(raw.removeprefix(_BOM) if number == 1 else raw, path, number)
                if number == 1 and not line:
                    break
                yield number, line if keep_ends else line.removesuffix("\n").removesuffix("\r")
            else:
                if number:
                    return
        except DAMAGED as error:
            raise InputError(
                f"{path}, line {number + 1}: the .gz file is truncated or damaged ({error})"
            ) from None
    raise InputError(f"{path}: the file is empty")


def _decoded(raw: bytes, path: str | os.PathLike[str], number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, place = raw[error.start], error.start + 1
        raise InputError(
            f"{path}, line {number}: expected UTF-8, got the byte 0x{byte:02x} at byte {place} of the line"
        ) from None
