"""Files that are either whole or absent: atomic writing of files and folders, and reading of JSON."""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from penstock.errors import InputError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """Open `path` for writing so that other readers see the old file or the whole new one, never a part.

    The bytes go to a temporary sibling, are flushed to the disk and renamed into place when the block ends;
    when it raises, the temporary file is removed and the old file stays. Missing parent folders are made.

    Args:
        path: the file to write; an existing file is replaced.
        mode: "w" for text (line ends are written as given) or "wb" for bytes.
        encoding: of text; ignored for bytes.

    Raises:
        InputError: `path` is a folder.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode: expected 'w' or 'wb', got {mode!r}")
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: expected a file name, got a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling(path, "partial")
    try:
        binary = mode == "wb"
        with open(partial, "xb") if binary else open(partial, "x", encoding=encoding, newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # Ctrl-C included
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary sibling of `path` that becomes `path` when the block ends.

    When the block raises, the temporary folder is removed and whatever `path` was before stays. Missing
    parent folders are made, and an existing empty folder counts as absent.

    Args:
        path: the folder to make.
        overwrite: replace an existing folder; the old one is renamed away first, and deleted only when the
            new one is in place.

    Raises:
        InputError: `path` is a file, or a folder that is not empty and `overwrite` is false.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling(path, "partial")
    partial.mkdir()
    try:
        yield partial
        _sync_tree(partial)
    except BaseException:  # Ctrl-C included
        shutil.rmtree(partial)
        raise
    # Nothing written is thrown away from here on: a failure leaves it under its temporary name.
    try:
        _refuse_existing(path, overwrite)
    except InputError as error:
        raise InputError(f"{error}; what was written is kept in {partial}") from None
    replace_folder(partial, path)


def replace_folder(source: Path, path: Path) -> None:
    """Rename the folder `source` to `path`; a folder that was there is deleted after that."""
    old = _sibling(path, "old") if path.exists() else None
    if old is not None:
        os.rename(path, old)
    try:
        os.rename(source, path)
    except OSError:
        if old is not None:
            os.rename(old, path)
        raise
    _sync(path.parent)
    if old is not None:
        shutil.rmtree(old)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value stored in the JSON file `path`.

    Raises:
        InputError: the file is missing, a folder, not UTF-8, truncated, or otherwise not JSON.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a JSON file, got a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected JSON in UTF-8, got the byte 0x{error.object[error.start]:02x}"
        ) from None
    if not text.strip():
        raise InputError(f"{path}: expected JSON, got an empty file")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        truncated = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "the JSON ends too early, the file looks truncated" if truncated else "not valid JSON"
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: {what} ({error.msg})") from None


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        if not overwrite and any(path.iterdir()):
            raise InputError(
                f"{path}: the folder already exists and is not empty; choose another or overwrite it"
            )
    elif path.exists():
        raise InputError(f"{path}: expected a folder, got a file")


def _sibling(path: Path, role: str) -> Path:
    """A hidden name beside `path` (a rename is atomic only within one file system)."""
    absolute = Path(os.path.abspath(path))
    return absolute.with_name(f".{absolute.name}.{secrets.token_hex(4)}.{role}")


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root, name))
        _sync(Path(root))


def _sync(path: Path) -> None:
    """Have a file's bytes or a folder's names survive a power cut (Windows has no such call for folders)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
