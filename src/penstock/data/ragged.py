"""Rows of differing length in one memory-mapped file: what every data set becomes before training.

The file holds, in little-endian order: the values of all rows one after the other; padding to 8 bytes; the
offsets, int64 (N + 1,), in elements of the first axis; a JSON footer {"dtype", "width", "rows"}; the footer's
length in bytes, uint64; and eight bytes that name the format. Only the offsets are held in memory.
"""

import array
import contextlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from penstock.errors import InputError
from penstock.files import atomic_write

_MAGIC = b"PENSRAG1"
_DTYPES = ("int32", "int64", "float32", "float64")


class RaggedWriter:
    """Write rows, one after the other, to a file that appears whole at the end.

    Use as a context manager; when the block raises, nothing is left and an older file stays.

        with RaggedWriter("ids.ragged", np.int32) as writer:
            writer.append(np.array([4, 8, 15], np.int32))
        rows = RaggedArray("ids.ragged")

    Args:
        path: the file.
        dtype: int32, int64, float32 or float64.
        width: None for rows of shape (n,), D for rows of shape (n, D).
    """

    def __init__(self, path: str | os.PathLike[str], dtype: DTypeLike = np.int32, width: int | None = None):
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self.width = width
        if self.dtype.name not in _DTYPES:
            raise TypeError(f"dtype: expected one of {', '.join(_DTYPES)}, got {self.dtype.name}")
        if width is not None and width < 1:
            raise ValueError(f"width: expected None or a positive number, got {width}")
        self._stored = self.dtype.newbyteorder("<")
        self._offsets = array.array("q", [0])
        self._stack = contextlib.ExitStack()
        self._file: Any = None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def append(self, row: NDArray[Any]) -> None:
        """Add one row, (n,) or (n, width), n >= 0, of the writer's dtype."""
        if self._file is None:
            raise RuntimeError("RaggedWriter: append() belongs inside its with block")
        row = np.asarray(row)
        shape = row.shape[1:]
        if row.ndim == 0 or shape != (() if self.width is None else (self.width,)):
            expected = "(n,)" if self.width is None else f"(n, {self.width})"
            raise ValueError(f"row {len(self)}: expected shape {expected}, got {row.shape}")
        if row.dtype != self.dtype:
            raise TypeError(f"row {len(self)}: expected {self.dtype.name}, got {row.dtype.name}")
        self._file.write(np.ascontiguousarray(row, self._stored).data)
        self._offsets.append(self._offsets[-1] + len(row))

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(atomic_write(self.path, "wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._file = None
        self._stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        fields = {"dtype": self.dtype.name, "width": self.width, "rows": len(self)}
        footer = json.dumps(fields).encode()
        self._file.write(b"\0" * (-self._file.tell() % 8))
        self._file.write(np.asarray(self._offsets, "<i8").data)
        self._file.write(footer + len(footer).to_bytes(8, "little") + _MAGIC)


class RaggedArray:
    """Read the rows of a `RaggedWriter`'s file; the values stay on disk, memory-mapped.

    `rows[i]` is a fresh numpy array, (n,) or (n, width). Pickles as its path alone, so passing it to a
    DataLoader's workers costs nothing; they open the file again.

    Attributes:
        path: the file.
        dtype: of the values.
        width: None for rows of shape (n,), else D.
        lengths: int64 (N,), the rows' lengths.

    Raises:
        InputError: the file is missing, truncated, or of another format.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()
        try:
            size = self.path.stat().st_size
            raw = np.memmap(self.path, np.uint8, "r") if size else np.zeros(0, np.uint8)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        if raw[-8:].tobytes() != _MAGIC:
            raise InputError(
                f"{path}: expected a file of encoded rows, got another format or a truncated file"
            )
        length = int.from_bytes(raw[-16:-8].tobytes(), "little")
        footer = json.loads(raw[-16 - length : -16].tobytes())
        self.dtype: np.dtype[Any] = np.dtype(footer["dtype"])
        self.width: int | None = footer["width"]
        rows: int = footer["rows"]

        start = size - 16 - length - 8 * (rows + 1)
        self._offsets: NDArray[np.int64] = np.frombuffer(raw[start:].tobytes(), "<i8", rows + 1).astype(
            np.int64
        )
        elements = int(self._offsets[-1]) * (self.width or 1)
        values = raw[: elements * self.dtype.itemsize].view(self.dtype.newbyteorder("<"))
        self._values = values if self.width is None else values.reshape(-1, self.width)
        self.lengths: NDArray[np.int64] = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> NDArray[Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected less than {len(self)} rows, got {index}")
        index %= len(self)
        return np.array(self._values[self._offsets[index] : self._offsets[index + 1]], self.dtype)

    def view(self, first: int, last: int) -> NDArray[Any]:
        """Rows `first` to before `last`, one after the other as in the file: read-only, not copied."""
        return np.asarray(self._values[self._offsets[first] : self._offsets[last]])

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (str(self.path),)
