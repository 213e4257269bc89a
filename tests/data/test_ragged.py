"""Ragged arrays on disk: random round trips, workers, atomicity and damage."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from penstock.data.ragged import RaggedArray, RaggedWriter
from penstock.errors import InputError


def random_rows(seed: int, dtype: str, width: int | None) -> list[NDArray[Any]]:
    random = np.random.default_rng(seed)
    shapes = [(n,) if width is None else (n, width) for n in random.integers(0, 9, 37)]
    return [random.normal(scale=1e4, size=shape).astype(dtype) for shape in shapes]


def write(
    path: Path, rows: list[NDArray[Any]], dtype: str = "int32", width: int | None = None
) -> RaggedArray:
    with RaggedWriter(path, dtype, width) as writer:
        for row in rows:
            writer.append(row)
        assert len(writer) == len(rows)
    return RaggedArray(path)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("width", [None, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_round_trip(tmp_path: Path, dtype: str, width: int | None, seed: int) -> None:
    rows = random_rows(seed, dtype, width)
    read = write(tmp_path / "rows", rows, dtype, width)
    assert len(read) == len(rows)
    assert read.dtype == dtype
    assert read.width == width
    assert read.lengths.dtype == np.int64
    assert read.lengths.tolist() == [len(row) for row in rows]
    for i, row in enumerate(rows):
        for got in (read[i], read[i - len(rows)]):
            assert got.dtype == dtype
            assert got.shape == row.shape
            assert got.tobytes() == row.tobytes()


@pytest.mark.parametrize("rows", [[], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)] * 3])
def test_nothing_to_store(tmp_path: Path, rows: list[NDArray[Any]]) -> None:
    read = write(tmp_path / "rows", rows)
    assert read.lengths.tolist() == [0] * len(rows)
    assert [row.tolist() for row in read] == [[]] * len(rows)


def test_rows_are_copies(tmp_path: Path) -> None:
    read = write(tmp_path / "rows", [np.arange(3, dtype=np.int32)])
    read[0][:] = 7
    assert read[0].tolist() == [0, 1, 2]


def test_strided_rows_are_stored_by_value(tmp_path: Path) -> None:
    strided = np.arange(12, dtype=np.float32).reshape(3, 4).T
    with RaggedWriter(tmp_path / "rows", np.float32, 3) as writer:
        writer.append(strided)
    assert np.array_equal(RaggedArray(tmp_path / "rows")[0], strided)


def test_index_out_of_range(tmp_path: Path) -> None:
    read = write(tmp_path / "rows", [np.zeros(2, np.int32)])
    for index in (1, -2):
        with pytest.raises(IndexError):
            read[index]


def test_pickle_is_small_and_opens_again(tmp_path: Path) -> None:
    read = write(tmp_path / "rows", [np.arange(100_000, dtype=np.int32)])
    pickled = pickle.dumps(read)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled)[0], read[0])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader(tmp_path: Path, context: str) -> None:
    rows = random_rows(1, "float32", 2)
    read: Any = write(tmp_path / "rows", rows, "float32", 2)
    loader = DataLoader(read, batch_size=None, num_workers=1, multiprocessing_context=context)
    assert [row.shape for row in loader] == [row.shape for row in rows]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    old = write(tmp_path / "rows", [np.arange(4, dtype=np.int32)])
    with pytest.raises(TypeError, match="row 1: expected int32, got float64"):
        write(tmp_path / "rows", [np.arange(2, dtype=np.int32), np.zeros(2)])
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    assert RaggedArray(tmp_path / "rows")[0].tolist() == old[0].tolist()


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="dtype: expected one of"):
        RaggedWriter(tmp_path / "rows", np.uint8)
    with pytest.raises(ValueError, match="width"):
        RaggedWriter(tmp_path / "rows", np.int32, 0)
    with pytest.raises(RuntimeError, match="with block"):
        RaggedWriter(tmp_path / "rows").append(np.zeros(1, np.int32))
    for width, shape in [(None, (2, 2)), (3, (2, 2)), (3, (2,)), (None, ())]:
        with pytest.raises(ValueError, match="row 0: expected shape"):
            write(tmp_path / "rows", [np.zeros(shape, np.int32)], "int32", width)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "rows"
    write(path, [np.arange(10, dtype=np.int32)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="another format or a truncated file"):
        RaggedArray(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        RaggedArray(tmp_path / "rows")
    with pytest.raises(InputError, match="cannot be read"):
        RaggedArray(tmp_path)
