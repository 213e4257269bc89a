"""Pretrained word vectors in the text format of word2vec and GloVe."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.data.lines import read_lines
from penstock.data.numbers import is_number, to_float32
from penstock.data.vocabulary import PAD_ID
from penstock.errors import InputError


class Vectors(NamedTuple):
    """Vectors for the words of a vocabulary.

    Attributes:
        matrix: float32 (V, D); zero where there is none.
        found: bool (V,).
    """

    matrix: NDArray[np.float32]
    found: NDArray[np.bool_]


def read_vectors(path: str | os.PathLike[str], words: Sequence[str]) -> Vectors:
    """Pick the vectors of `words` from a text file: a word and D numbers a line, separated by spaces.

    The file may be gzipped and may begin with a line `N D`. A word that it lacks takes the vector of its
    lower case. Only the vectors picked are held in memory; a word's first line counts.

    Raises:
        InputError: a missing or damaged file, no vectors in it, or a line without D finite numbers, naming
            file and line.
    """
    path = Path(path)
    exact = {word: i for i, word in enumerate(words)}
    lowered: dict[str, list[int]] = {}
    for word, i in exact.items():
        lowered.setdefault(word.lower(), []).append(i)
    matrix: NDArray[np.float32] | None = None
    found = np.zeros(len(words), bool)
    certain = np.zeros(len(words), bool)  # found as written, not only in lower case
    for line, word, numbers in _entries(path):
        if matrix is None:
            matrix = np.zeros((len(words), len(numbers)), np.float32)
        rows = [i for i in lowered.get(word, ()) if not found[i]]
        if word in exact and not certain[exact[word]]:
            rows.append(exact[word])
            certain[exact[word]] = True
        if rows:
            where = f"{path}, line {line}"
            matrix[rows] = to_float32(numbers, lambda d, at=where: f"{at}, number {d + 1} of the vector")
            found[rows] = True
    if matrix is None:
        raise InputError(f"{path}: expected word vectors, got only a header")
    return Vectors(matrix, found)


def starting_embedding(path: str | os.PathLike[str], words: Sequence[str], seed: int) -> NDArray[np.float32]:
    """The embedding of a vocabulary to start from, float32 (V, D).

    The vectors of the file where it has them, random ones of the same spread elsewhere, zeros for padding.

    Raises:
        InputError: as `read_vectors`, and a file with a vector for none of the words.
    """
    vectors = read_vectors(path, words)
    if not vectors.found.any():
        raise InputError(f"{path}: none of the {len(words)} words has a vector there")
    spread = vectors.matrix[vectors.found].std()
    matrix = np.random.default_rng(seed).normal(0, spread, vectors.matrix.shape).astype(np.float32)
    matrix[vectors.found] = vectors.matrix[vectors.found]
    matrix[PAD_ID] = 0
    return matrix


def _entries(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Each line's number, word and D texts; a word may itself hold spaces, as some do in GloVe."""
    width = 0
    for line, raw in read_lines(path):
        text = raw.replace("\t", " ").rstrip(" ")
        if line == 1 and re.fullmatch(r"\d+ \d+", text):
            width = int(text.split()[1])
            continue
        width = width or text.count(" ")
        word, *numbers = text.rsplit(" ", width) if width else [text]
        before = word.rpartition(" ")[2] if " " in word else ""
        if not numbers or len(numbers) != width or is_number(before):
            got = len(numbers) + is_number(before)
            raise InputError(
                f"{path}, line {line}: expected a word and {width or 'its'} numbers, got {got} numbers"
            )
        yield line, word, numbers
