"""Text files line by line, and what is said when they are broken."""

import gzip
import random
import re
from pathlib import Path

import pytest

from penstock.data.lines import find_files, place, read_lines, read_text
from penstock.errors import InputError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_and_their_numbers(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name, b"\xef\xbb\xbfone\r\ntwo\n\n\xe4\xb8\xad \x85\x0cend".replace(b"\x85", b"\xc2\x85")
    )
    assert list(read_lines(path)) == [(1, "one"), (2, "two"), (3, ""), (4, "中 \x85\x0cend")]
    assert "".join(line for _, line in read_lines(path, keep_ends=True)) == "one\r\ntwo\n\n中 \x85\x0cend"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(InputError, match="the file is empty"):
        list(read_lines(write(tmp_path / name, content)))


def test_blank_first_line_is_not_an_empty_file(tmp_path: Path) -> None:
    assert list(read_lines(write(tmp_path / "a", b"\n"))) == [(1, "")]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        list(read_lines(tmp_path / name))
    assert str(caught.value) == f"{tmp_path / name}: no such file"


@pytest.mark.parametrize("name", ["folder", "folder.gz"])
def test_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="expected a file, got a folder"):
        list(read_lines(tmp_path / name))


def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", b"x")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_lines(tmp_path / "a" / "b"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_broken_utf8_names_the_line(tmp_path: Path, name: str) -> None:
    lines = read_lines(write(tmp_path / name, b"fine\nca\xff\xe9\n"))
    assert next(lines) == (1, "fine")
    with pytest.raises(InputError, match=r"a\.txt.*, line 2: expected UTF-8, got the byte 0xff at byte 3"):
        next(lines)


def test_truncated_gzip_names_the_line(tmp_path: Path) -> None:
    source = random.Random(0)
    content = b"".join(b"%d\n" % source.getrandbits(64) for _ in range(10_000))
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(content)[:-2000])
    with pytest.raises(InputError, match="truncated or damaged") as caught:
        list(read_lines(path))
    assert re.search(r"a\.gz, line \d{4}: ", str(caught.value))


def test_gzip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"line 1: the \.gz file is truncated or damaged"):
        list(read_lines(tmp_path / "a.gz"))


def test_gzip_with_flipped_bits(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(b"some text\n" * 1000))
    damaged[30] ^= 0xFF
    (tmp_path / "a.gz").write_bytes(damaged)
    with pytest.raises(InputError, match="truncated or damaged"):
        list(read_lines(tmp_path / "a.gz"))


def test_place() -> None:
    assert place("a.csv.gz", 3) == "a.csv.gz, line 3"
    assert place(Path("a.parquet.gz"), 3) == "a.parquet.gz, row 3"


# Pieces


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_pieces_are_the_text(tmp_path: Path, name: str) -> None:
    text = "one\r\ntwo\n\n" + "中文" * 50_000 + "\nend"
    pieces = list(read_text(write(tmp_path / name, b"\xef\xbb\xbf" + text.encode())))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) < 1 << 17
    lines = "".join(f"{i}\r\n" for i in range(90_000))
    pieces = list(read_text(write(tmp_path / name, lines.encode())))
    assert "".join(pieces) == lines
    assert len(pieces) < 12
    assert all(piece.endswith("\r\n") for piece in pieces)


def test_mistakes_in_pieces(tmp_path: Path) -> None:
    damaged = gzip.compress(random.Random(0).randbytes(9000).hex().encode())[:-1000]
    (tmp_path / "cut.gz").write_bytes(damaged)
    for path, message in {
        write(tmp_path / "empty", b""): "empty: the file is empty",
        write(tmp_path / "mark", b"\xef\xbb\xbf"): "mark: the file is empty",
        write(tmp_path / "bad", b"fine\n\xff\n"): "bad, line 2: expected UTF-8, got the byte 0xff",
        write(tmp_path / "far", b"fine\n" * 30_000 + b"\n\xff"): "far, line 30002: expected UTF-8, got the",
        write(tmp_path / "half", b"fine\nfine \xe4\xb8"): "half, line 2: expected UTF-8, got the byte 0xe4",
        tmp_path / "cut.gz": "cut.gz, line 1: the .gz file is truncated or damaged",
        tmp_path / "none": "none: no such file",
    }.items():
        with pytest.raises(InputError) as error:
            list(read_text(path))
        assert message in str(error.value)


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt", ".git/d.txt", "deep/.e.txt", "f[1].csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(*names: str) -> list[str]:
        return [str(file.relative_to(tmp_path)) for file in find_files(tmp_path / name for name in names)]

    assert found("b.txt", "a.txt", "none") == ["b.txt", "a.txt", "none"]
    assert found("") == ["a.txt", "b.txt", "deep/c.txt", "f[1].csv"]
    assert found("*.txt", "deep") == ["a.txt", "b.txt", "deep/c.txt"]
    assert found("f[1].csv") == ["f[1].csv"], "a file of that name is no pattern"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: the folder holds no file"):
        found("empty")
    with pytest.raises(InputError, match="matches no file"):
        found("*.jsonl")
