"""Files to tokens on disk: what is read, where it is cut, how it is encoded."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from penstock.errors import InputError
from penstock.tasks.lm import codec
from penstock.tasks.lm.corpus import Edge, Text, cut, prepare
from penstock.tasks.lm.data import TextData
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
    assert "".join(Text([books])) == expected
    texts, _ = prepared(tmp_path, books, dev=books / "a.txt")
    assert texts["train"] == expected
    texts, _ = prepared(tmp_path, [books / "*.txt", books / "more/*"], dev=books / "a.txt")
    assert texts["train"] == "aaaacccc"
    texts, _ = prepared(tmp_path, books / "**/*.txt", dev=books / "a.txt")
    assert texts["train"] == "aaaacccc"


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


@pytest.mark.parametrize("at_spaces", [False, True])
def test_every_edge_cuts_at_its_place_however_the_text_comes(at_spaces: bool) -> None:
    text = "one two  three\nfour five " * 5
    for stops in ((30, 60), (0, 60), (31, 33), (31, 32), (len(text), len(text)), (12, len(text) - 1)):
        edges = [Edge("a", stops[0]), Edge("b", stops[1]), Edge("c", float("inf"))]
        found = []
        for size in (1, 4, 7, 200):
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
            parts = {"a": "", "b": "", "c": ""}
            for name, piece in cut(pieces, edges, at_spaces):
                parts[name] += piece
            assert "".join(parts.values()) == text
            found.append(parts)
        if not at_spaces:
            assert found == [{"a": text[: stops[0]], "b": text[slice(*stops)], "c": text[stops[1] :]}] * 4
        for parts in found if at_spaces else ():
            assert all(part[-1].isspace() for part in parts.values() if part)
            assert 0 <= len(parts["a"]) - stops[0] <= 10


# Tables

ROWS = ["A splendid film.", "她看见了船。\nTwo, lines", '"quoted"']


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet", "csv.gz", "parquet.gz"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A table whose column "review" holds ROWS (in tsv without the end of line)."""
    path = tmp_path / f"reviews.{request.param.removesuffix('.gz')}"
    rows = [row.replace("\n", " ") if path.suffix == ".tsv" else row for row in ROWS]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "review": rows}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": 1, "review": row}) + "\n" for row in rows), "utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([("id", "review"), *((1, row) for row in rows)])
    if request.param.endswith(".gz"):
        packed = path.with_name(path.name + ".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        return packed
    return path


def test_the_text_of_a_column(table: Path, tmp_path: Path, write: Write) -> None:
    expected = "".join(f"{row}\n" for row in ROWS)
    if table.suffix == ".tsv":
        expected = "".join(row.replace("\n", " ") + "\n" for row in ROWS)
    plain = write("plain.txt", "plain text")
    assert "".join(Text([table, plain], "review")) == expected + "plain text"
    texts, _ = prepared(tmp_path, table, text="review", dev=plain, test=table, level="byte")
    assert texts == {"train": expected, "dev": "plain text", "test": expected}
    texts, _ = prepared(tmp_path, table, text="review", level="byte", dev_fraction=0.5)
    assert texts["train"] + texts["dev"] == expected


def test_mistakes_about_columns(tmp_path: Path, write: Write) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"review": ROWS}), tmp_path / "a.parquet")
    write("a.csv", "id,review\n1,fine\n")
    for name, column, message in (
        ("a.parquet", None, r"a\.parquet: a Parquet file needs --text, the column with the text"),
        ("a.csv", "text", "no column 'text'; the columns are 'id', 'review'"),
        ("b.txt", "review", r"--text review: expected a table, whose name ends in .*, got .*b\.txt"),
    ):
        with pytest.raises(InputError, match=message):
            prepared(tmp_path, tmp_path / name, text=column)


def test_cut_offs_lie_in_the_vocabulary(tmp_path: Path, write: Write) -> None:
    path = write("a.txt", "abcdefgh" * 9)
    with pytest.raises(InputError, match="cut-offs below the 10 tokens of the vocabulary, got 10"):
        prepared(tmp_path, path, adaptive_softmax=[4, 10], hidden_size=16)
    prepared(tmp_path, path, adaptive_softmax=[4, 9], hidden_size=16)
