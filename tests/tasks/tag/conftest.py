"""What the tests of tagging share: files, and a tagger trained through the command line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.tasks.tag.language import SMALL, columns, penstock, sentences


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of the test's own folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv, dev.tsv and test.tsv."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, count) in enumerate({"train": 400, "dev": 60, "test": 60}.items()):
        (folder / f"{name}.tsv").write_text(columns(sentences(count, seed)), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tagger trained on `corpus`, once for all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "tagger"
    files = [corpus / "train.tsv", "--dev", corpus / "dev.tsv", "--test", corpus / "test.tsv"]
    with FileLock(shared / "tagger.lock"):
        if not folder.exists():
            result = penstock("train", "tag", *files, "--output", folder, *SMALL)
            assert result.returncode == 0, result.stderr
    return folder
