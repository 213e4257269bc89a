"""Atomic files and folders, and JSON with clear errors."""

import json
import re
from pathlib import Path
from typing import IO

import pytest

from penstock.errors import InputError
from penstock.files import atomic_folder, atomic_write, read_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_and_raise(file: IO[str] | Path, error: type[BaseException]) -> None:
    file.write_text("half") if isinstance(file, Path) else file.write("half")
    raise error


def write_both(ours: Path, theirs: Path) -> None:
    ours.write_text("hours of work")
    theirs.parent.mkdir()
    theirs.write_text("somebody else's")


def test_write_replaces_the_file_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new é\r\n")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_bytes() == "new é\r\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_write_bytes_and_make_parents(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "deep" / "er" / "a.bin", "wb") as file:
        file.write(b"\0\xff")
    assert (tmp_path / "deep" / "er" / "a.bin").read_bytes() == b"\0\xff"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_write_that_fails_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as file:
        write_and_raise(file, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_write_gives_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_refuses_a_folder_and_other_modes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file name, got a folder"), atomic_write(tmp_path):
        pass
    with pytest.raises(ValueError, match="'a'"), atomic_write(tmp_path / "x", "a"):
        pass


def test_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "model"
    with atomic_folder(target) as folder:
        (folder / "logs").mkdir()
        (folder / "logs" / "a.txt").write_text("a")
        assert not target.exists()
    assert tree(target) == {"logs/a.txt": "a"}
    assert names(target.parent) == ["model"]


def test_folder_may_take_the_place_of_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_text("a")
    assert tree(tmp_path) == {"model/a": "a"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_folder_that_fails_leaves_nothing(
    tmp_path: Path, overwrite: bool, error: type[BaseException]
) -> None:
    target = tmp_path / "model"
    if overwrite:
        target.mkdir()
        (target / "weights").write_text("old")
    before = tree(tmp_path)
    with pytest.raises(error), atomic_folder(target, overwrite) as folder:
        write_and_raise(folder / "weights", error)
    assert tree(tmp_path) == before
    assert target.exists() == overwrite


def test_folder_overwrites_only_when_told(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(InputError, match="already exists"), atomic_folder(target):
        pytest.fail("the block must not run")
    with atomic_folder(target, overwrite=True) as folder:
        (folder / "new").write_text("new")
        assert tree(target) == {"old": "old"}
    assert tree(target) == {"new": "new"}
    assert names(tmp_path) == ["model"]


def test_folder_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="got a file"), atomic_folder(tmp_path / "model", overwrite=True):
        pytest.fail("the block must not run")
    assert (tmp_path / "model").read_text() == "mine"


def test_folder_keeps_the_work_when_the_name_is_taken_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(InputError, match="kept in") as caught, atomic_folder(target) as folder:
        write_both(folder / "weights", target / "other")
    kept = Path(re.split("kept in ", str(caught.value))[1])
    assert tree(kept) == {"weights": "hours of work"}
    assert tree(target) == {"other": "somebody else's"}


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, "é"]}), encoding="utf-8-sig")
    assert read_json(path) == {"a": [1, "é"]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "got an empty file"),
        (b'{"a": [1, 2', "line 1, column 12: the JSON ends too early, the file looks truncated"),
        (b'{"a": "some te', "looks truncated"),
        (b'{"a":\n  1,,}', "line 2, column 5: not valid JSON"),
        (b"PK\x03\x04", "line 1, column 1: not valid JSON"),
        (b"\x80\x02", "expected JSON in UTF-8, got the byte 0x80"),
    ],
)
def test_json_that_is_none(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


def test_json_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(InputError, match="got a folder"):
        read_json(tmp_path)
