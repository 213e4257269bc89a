"""Text files, line by line or piece by piece: the one way text is opened."""

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from penstock.errors import InputError

_PIECE = 1 << 16  # bytes read at a time where lines do not matter
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


def read_text(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a UTF-8 text file, which may be gzipped, in pieces: some lines with their ends, long ones cut.

    The pieces together are the text, without a byte order mark. However long a line is, little is in memory.

    Raises:
        InputError: as `read_lines`.
    """
    number, empty = 1, True
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with open_bytes(path) as file:
        try:
            while raw := file.read(_PIECE) + file.readline(_PIECE):
                if text := decoder.decode(raw):
                    empty = False
                    yield text
                number += raw.count(b"\n")
            decoder.decode(b"", final=True)
        except DAMAGED as error:
            raise InputError(
                f"{path}, line {number}: the .gz file is truncated or damaged ({error})"
            ) from None
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            number += error.object.count(b"\n", 0, error.start)
            raise InputError(f"{path}, line {number}: expected UTF-8, got the byte 0x{byte:02x}") from None
    if empty:
        raise InputError(f"{path}: the file is empty")


def find_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files that are meant by paths: files as they are, all files in folders, the matches of patterns.

    Args:
        paths: a folder stands for the files in it and in its folders, hidden ones left out; `*`, `?`, `[...]`
            and `**` are patterns where there is no file of that very name. Both give sorted names.

    Raises:
        InputError: a folder holds no file, or a pattern matches none.
    """
    return [file for path in paths for file in _files(Path(path))]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if file.is_file())
        found = [file for file in inside if not _is_hidden(file.relative_to(path))]
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    if not found:
        raise InputError(f"{path}: the folder holds no file" if path.is_dir() else f"{path}: matches no file")
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _decoded(raw: bytes, path: str | os.PathLike[str], number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, place = raw[error.start], error.start + 1
        raise InputError(
            f"{path}, line {number}: expected UTF-8, got the byte 0x{byte:02x} at byte {place} of the line"
        ) from None
