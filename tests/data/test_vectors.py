"""Pretrained vectors: both formats, look-up rules, and broken files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from penstock.data.vectors import read_vectors, starting_embedding
from penstock.errors import InputError

WORDS = ["<pad>", "<unk>", "the", "The", "Paris", "naïve", "zebra"]
LINES = (
    "the 1 2 3\nparis 4 5 6\n, -1e-1 0 1\nThe 7 8 9\nthe 0 0 0\nnaïve .5 .25 -1\n. . . 9 9 9\n\u00a0 8 8 8\n"
)


def save(path: Path, text: str) -> Path:
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["glove.txt", "glove.txt.gz"])
@pytest.mark.parametrize("header", ["", "8 3\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_both_formats(tmp_path: Path, name: str, header: str, end: str) -> None:
    path = save(tmp_path / name, header + LINES.replace("\n", end))
    matrix, found = read_vectors(path, WORDS)
    assert matrix.dtype == np.float32
    assert found.tolist() == [False, False, True, True, True, True, False]
    assert matrix[2:6].tolist() == [[1, 2, 3], [7, 8, 9], [4, 5, 6], [0.5, 0.25, -1]]
    assert not matrix[~found].any()


def test_words_with_spaces_and_odd_characters(tmp_path: Path) -> None:
    matrix, found = read_vectors(save(tmp_path / "a", LINES), [". . .", "\u00a0", ","])
    assert found.all()
    assert matrix[:, 0].tolist() == pytest.approx([9, 8, -0.1])


def test_tabs_separate_too(tmp_path: Path) -> None:
    assert read_vectors(save(tmp_path / "a", "the\t1 2\n"), ["the"]).matrix.tolist() == [[1, 2]]


def test_the_exact_word_wins_whatever_the_order(tmp_path: Path) -> None:
    for text in ("us 1\nUS 2\n", "US 2\nus 1\n"):
        matrix, found = read_vectors(save(tmp_path / "a", text), ["US", "us", "Us"])
        assert matrix.tolist() == [[2], [1], [1]]
        assert found.all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ": the file is empty"),
        ("2 3\n", ": expected word vectors, got only a header"),
        ("the\n", ", line 1: expected a word and its numbers, got 0 numbers"),
        ("the 1 2\nof 1\n", ", line 2: expected a word and 2 numbers, got 1 numbers"),
        ("the 1 2\nof 1 2 3\n", ", line 2: expected a word and 2 numbers, got 3 numbers"),
        ("1 3\nthe 1 2\n", ", line 2: expected a word and 3 numbers, got 2 numbers"),
        ("of 1 2\nthe 1 x\n", ", line 2, number 2 of the vector: expected a number, got 'x'"),
        ("the 1 nan\n", ", line 1, number 2 of the vector: expected a finite number, got nan"),
        ("the 1 1e99\n", ", line 1, number 2 of the vector: expected a finite number, got 1e99"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, sentence: str) -> None:
    path = save(tmp_path / "vectors.txt", text)
    with pytest.raises(InputError) as caught:
        read_vectors(path, WORDS)
    assert str(caught.value) == f"{path}{sentence}"


def test_starting_embedding_is_random_where_there_is_no_vector(tmp_path: Path) -> None:
    path = save(tmp_path / "a", "the\t1 2\nof\t3 5\n")
    words = ["<pad>", "<unk>", "the", "nowhere", "of"]
    matrix = starting_embedding(path, words, seed=3)
    assert matrix[[0, 2, 4]].tolist() == [[0, 0], [1, 2], [3, 5]]
    assert matrix[1].any()
    assert (matrix[1] != matrix[3]).all()
    assert (matrix == starting_embedding(path, words, seed=3)).all()
    with pytest.raises(InputError, match="none of the 2 words has a vector there"):
        starting_embedding(path, ["<pad>", "nowhere"], seed=3)
