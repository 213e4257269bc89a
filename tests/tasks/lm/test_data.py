"""Files to tokens on disk, and windows that cover them."""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.errors import InputError
from penstock.tasks.lm import codec
from penstock.tasks.lm.data import (
    IGNORED,
    Part,
    StreamSampler,
    TextData,
    collate,
    measuring_rows,
    prepare,
    training_rows,
    write,
)
from tests.tasks.lm.conftest import Write
from tests.tasks.lm.text import small_config


def prepared(tmp_path: Path, files: Any, **options: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """The text of every part, and the sizes."""
    config = small_config(files, tmp_path / "out", **options)
    folder = tmp_path / f"prepared{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    prepare(config, folder)
    assets = {file.name: file.read_text() for file in folder.glob("*.json")}
    known = codec.load(config.level, assets, folder)
    sizes = json.loads((folder / "sizes").read_text())
    texts = {}
    for name in sizes:
        data = TextData(folder, name)
        texts[name] = known.decode(np.fromfile(folder / f"{name}.tokens", sizes[name]["dtype"]).tolist())
        assert len(data) == sizes[name]["tokens"]
    return texts, sizes


def test_parts_by_position(tmp_path: Path, write: Write) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E64)))  # 100 characters
    texts, sizes = prepared(tmp_path, write("a.txt", text), dev_fraction=0.2, test_fraction=0.1)
    assert sizes["dev"] == {"tokens": 20, "characters": 20, "dtype": "uint16"}
    assert texts["train"] == text[:70]
    assert set(texts["dev"]) == {"\N{REPLACEMENT CHARACTER}"}, "the vocabulary is of the training text alone"
    texts, sizes = prepared(tmp_path, tmp_path / "a.txt", level="byte", dev_fraction=0.2, test_fraction=0.1)
    assert texts == {"train": text[:70], "dev": text[70:90], "test": text[90:]}
    assert sizes["train"] == {"tokens": 210, "characters": 70, "dtype": "uint16"}


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_parts_are_cut_between_words(tmp_path: Path, write: Write, level: str) -> None:
    text = "seventeen words " * 40
    texts, sizes = prepared(tmp_path, write("a.txt", text), level=level, test_fraction=0.2)
    assert sum(part["characters"] for part in sizes.values()) == len(text)
    assert {word for part in texts.values() for word in part.split()} == {"seventeen", "words"}
    if level == "bpe":
        assert "".join(texts[name] for name in ("train", "dev", "test")) == text


def test_files_of_their_own_for_dev_and_test(tmp_path: Path, write: Write) -> None:
    train, dev = write("a.txt", "abcabc" * 3), write("dev.txt", "cab")
    texts, _ = prepared(tmp_path, train, dev=dev, test=write("test.txt", "bb"))
    assert texts == {"train": "abcabc" * 3, "dev": "cab", "test": "bb"}


def test_folders_patterns_and_compressed_files(tmp_path: Path) -> None:
    books = tmp_path / "books"
    (books / "more").mkdir(parents=True)
    (books / "a.txt").write_text("aaaa", "utf-8")
    (books / ".hidden").write_text("no", "utf-8")
    (books / "more" / "c.txt").write_text("\ufeffcccc", "utf-8")
    (books / "b.txt.gz").write_bytes(gzip.compress(b"bbbb"))
    expected = "aaaabbbbcccc"
    assert "".join(Part(list_files(books)).pieces()) == expected
    texts, _ = prepared(tmp_path, books, dev=books / "a.txt")
    assert texts["train"] == expected
    texts, _ = prepared(tmp_path, [books / "*.txt", books / "more/*"], dev=books / "a.txt")
    assert texts["train"] == "aaaacccc"
    texts, _ = prepared(tmp_path, books / "**/*.txt", dev=books / "a.txt")
    assert texts["train"] == "aaaacccc"


def list_files(folder: Path) -> list[Path]:
    return [folder / "a.txt", folder / "b.txt.gz", folder / "more/c.txt"]


def test_many_tokens_take_four_bytes(tmp_path: Path, write: Write) -> None:
    words = " ".join(f"w{i}" for i in range(70_000))
    _, sizes = prepared(
        tmp_path, write("a.txt", words), level="word", vocabulary_size=66_000, dev_fraction=0.01
    )
    assert sizes["train"]["dtype"] == "uint32"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.txt: the file is empty"),
        (b"abc", "a.txt: the dev text is too short, expected at least 2 tokens, got 1"),
        (b"fine\nfine\ncaf\xe9 x\n" * 20, "a.txt, line 3: expected UTF-8, got the byte 0xe9"),
        (b"fine\nhalf \xe5\xa5", "a.txt, line 2: expected UTF-8, got the byte 0xe5"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError) as error:
        prepared(tmp_path, tmp_path / "a.txt")
    assert message in str(error.value)


def test_mistakes_about_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"some text\n" * 500)[:-12])
    for name, message in {
        "none.txt": "none.txt: no such file",
        "empty": "empty: the folder holds no file",
        "*.csv": "matches no file",
        "cut.txt.gz": "the .gz file is truncated or damaged",
    }.items():
        with pytest.raises(InputError, match=message):
            prepared(tmp_path, tmp_path / name)


# Windows


def streams(tokens: int, rows: int, epoch: int = 0, **options: Any) -> list[list[Any]]:
    sampler = StreamSampler(tokens, rows, window=5, **{"shuffle": True, **options})
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    return batches


def covered(batches: list[list[Any]], tokens: int) -> list[int]:
    return [
        (window.first + i) % tokens
        for batch in batches
        for window in batch
        if window.counted
        for i in range(window.steps)
    ]


@pytest.mark.parametrize(("tokens", "rows"), [(103, 4), (100, 4), (20, 4), (9, 6), (7, 1), (5, 5)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_windows_cover_every_token_once_and_in_order(tokens: int, rows: int, shuffle: bool) -> None:
    batches = streams(tokens, rows, shuffle=shuffle)
    assert sorted(covered(batches, tokens)) == list(range(tokens))
    for row in range(len(batches[0])):
        windows = [batch[row] for batch in batches]
        for before, after in itertools.pairwise(windows):
            if before.steps and after.steps:
                assert after.first == (before.first + before.steps) % tokens
        assert [window.begins for window in windows].count(True) == 1 + (
            not shuffle and row == 0 and rows > 1
        )


def test_each_epoch_cuts_elsewhere_and_the_same_again() -> None:
    first, second = ([batch[0].first for batch in streams(103, 4, epoch)] for epoch in (0, 1))
    assert len(first) == len(second)
    assert (second[0] - first[0]) % 103
    assert [batch[0].first for batch in streams(103, 4, 1)] == second
    assert [batch[0].first for batch in streams(103, 4, 1, seed=2)] != second
    assert {streams(103, 4, epoch)[0][0].first % 5 for epoch in range(40)} == set(range(5))


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_streams(shuffle: bool) -> None:
    shares = [streams(103, 7, shuffle=shuffle, rank=rank, world_size=3) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(place for share in shares for place in covered(share, 103)) == list(range(103))


def test_inputs_are_the_tokens_before(tmp_path: Path, write: Write) -> None:
    data = encoded(tmp_path, "abcdefghijklmnopqrstuvwxyz", write)
    for batch in streams(26, 3):
        for window in batch:
            example = data[window]
            expected = [(window.first + i) % 26 for i in range(window.steps)]
            assert example.targets.tolist() == [2 + place for place in expected]
            before = [2 + place - 1 if place else 0 for place in expected]
            if window.begins:
                before[0] = 0
            assert example.inputs.tolist() == before


def test_warming_up_counts_nothing(tmp_path: Path, write: Write) -> None:
    data = encoded(tmp_path, "abcdefghijklmnopqrstuvwxyz", write)
    batches = streams(26, 2, shuffle=False)
    warm, first = (collate([data[window] for window in batch]) for batch in batches[:2])
    assert (warm["targets"] == IGNORED).all()
    assert warm["inputs"].tolist() == [[0] * 5, [0, *range(2 + 8, 2 + 12)]]
    assert warm["characters"].tolist() == [0, 0]
    assert first["begins"].tolist() == [True, False]
    assert first["inputs"][:, 0].tolist() == [0, 2 + 12]
    total = sum(float(collate([data[window] for window in batch])["characters"].sum()) for batch in batches)
    assert total == pytest.approx(26)


def encoded(tmp_path: Path, text: str, write_file: Write) -> TextData:
    known = codec.learn("char", [text], 1000, 1)
    folder = tmp_path / "encoded"
    folder.mkdir()
    write(folder, known, {"data": Part([write_file("letters.txt", text)])})
    return TextData(folder, "data")


def test_how_many_streams(tmp_path: Path) -> None:
    config = small_config(tmp_path, tmp_path, window=128, batch_rows=64, batch_tokens=4096)
    assert training_rows(10**6, config, 1) == 32, "no more than batch_tokens allow"
    assert training_rows(10**6, config, 2) == 64
    assert training_rows(1000, config, 1) == 7, "none shorter than a window"
    assert training_rows(5, config, 2) == 2
    assert measuring_rows(10**6, 128, 8192) == 64
    assert measuring_rows(2047, 128, 8192) == 1
    assert measuring_rows(4096, 128, 8192) == 4
