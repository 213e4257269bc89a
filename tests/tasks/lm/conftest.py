"""What the tests of language models share: a text, and a model of it, trained through the command line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from penstock.cli import main
from tests.tasks.lm.text import SMALL, sentences

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the test's own folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.txt and test.txt."""
    folder = tmp_path_factory.mktemp("text")
    for seed, (name, count) in enumerate({"train": 600, "test": 50}.items()):
        (folder / f"{name}.txt").write_text(sentences(count, seed), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of characters trained on `corpus`, once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "author"
    files = [corpus / "train.txt", "--test", corpus / "test.txt"]
    with FileLock(shared / "author.lock"):
        if not folder.exists():
            assert main([*map(str, ("train", "lm", *files, "--output", folder, *SMALL))]) == 0
    return folder
