"""The labels that the demo learns from."""

import pytest

from examples.python_functions import PLAIN, read_functions, write_data

SOURCE = '''\
import os

class Store:
    @property
    def items(self, limit=None, *, sizes=()):  # a comment
        """Text."""
        from math import sqrt as root
        for i, size in enumerate(sizes):
            try:
                self.rows.append(root(size), key=limit)
            except OSError as error:
                print(f"{error} at {i}", DEFAULT)
        def inner(depth):
            return limit + depth
        return inner
'''


def labels(source: str) -> dict[str, set[str]]:
    """What each token of the only function in `source` is said to be."""
    (function,) = read_functions(source)
    return {token: {label for other, label in function if other == token} for token, _ in function}


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("items", "definition"),
        ("inner", "definition local"),
        ("limit", "parameter"),
        ("sizes", "parameter"),
        ("depth", "parameter"),
        ("i", "local"),
        ("error", "local"),
        ("root", "import local"),
        ("math", "import"),
        ("rows", "attribute"),
        ("append", "method"),
        ("key", "argument"),
        ("enumerate", "builtin"),
        ("DEFAULT", "global"),
        ("try", "keyword"),
        ("(", "operator"),
        ('"…"', "string"),
    ],
)
def test_label(token: str, label: str) -> None:
    assert labels(SOURCE)[token] == set(label.split())


def test_decorators_and_comments_are_left_out() -> None:
    assert "property" not in labels(SOURCE)
    assert not any(token.startswith("#") for token in labels(SOURCE))


def test_files_are_columns_and_share_nothing(tmp_path) -> None:
    parts = write_data(tmp_path, {"train": 3000, "dev": 1000})
    for part, functions in parts.items():
        written = (tmp_path / f"{part}.tsv").read_text(encoding="utf-8")
        read = [
            [tuple(line.split("\t")) for line in block.splitlines()]
            for block in written.strip().split("\n\n")
        ]
        assert read == functions
        assert any(label not in PLAIN for function in functions for _, label in function)
    assert sum(map(len, parts["train"])) >= 3000
