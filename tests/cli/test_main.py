"""The command as a whole: fast, and clear about what it does not know."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock import __version__
from penstock.cli import main
from penstock.tasks import TASKS
from tests.cli.command import COMMAND, penstock
from tests.cli.conftest import Fails


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    for verb in ("train", "evaluate", "predict"):
        assert f"\n  {verb} " in capsys.readouterr().out or verb != "train"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"penstock {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train"], ["predict", "--help"]])
def test_answers_at_once(words: list[str]) -> None:
    """In 0.3 s of computing: what else runs on the machine does not count."""
    resource = pytest.importorskip("resource")

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    best = float("inf")
    for _ in range(3):
        before = spent()
        subprocess.run([*COMMAND, *words], capture_output=True, check=True)
        best = min(best, spent() - before)
    assert best < 0.3


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train"],
        ["train", "classify", "--help"],
        ["search", "classify", "--help"],
        ["predict", "--help"],
    ],
)
def test_help_imports_no_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom penstock.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'lightning', 'optuna') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_train_lists_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {task} " in shown for task in TASKS)


def test_unknown_words_are_said(fails: Fails) -> None:
    assert (
        fails("trian")
        == "unknown verb 'trian', expected one of train, search, evaluate, predict; see penstock --help"
    )
    assert fails("train", "clasify").startswith("unknown task 'clasify', expected one of classify, ")
    assert fails("predict", "--input", "x").startswith("the folder of the model comes first, got --input")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("penstock.cli.train.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_an_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.cli.train.run", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "penstock: interrupted\n"


def test_the_exit_code_of_a_mistake_is_2(tmp_path: Path) -> None:
    done = penstock("predict", tmp_path / "none", code=2)
    assert done.stderr == f"penstock: error: {tmp_path / 'none'}: no such folder\n"
    assert done.stdout == ""


def test_a_reader_who_leaves_is_no_mistake(model: Path, tmp_path: Path) -> None:
    """`penstock predict ... | head -n 1`."""
    texts = tmp_path / "texts.txt"
    texts.write_text("good film\n" * 20_000)
    command = [*COMMAND, "predict", str(model), "--input", str(texts), "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr  # noqa: PT018
        assert process.stdout.readline().startswith(b'{"text": "good film"')
        process.stdout.close()
        started = time.monotonic()
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - started < 30
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("verb", "missing"), [("train", "pydantic"), ("predict", "pydantic"), ("train", "torch")]
)
def test_a_missing_library_is_named_with_its_extra(verb: str, missing: str, tmp_path: Path) -> None:
    table = tmp_path / "moods.csv"
    table.write_text("text,label\ngood,a\nbad,b\n")
    arguments = {
        "train": ["train", "classify", str(table), "--output", str(tmp_path / "m")],
        "predict": ["predict", "m"],
    }
    without = f"import sys; sys.modules[{missing!r}] = None; from penstock.cli import main"
    code = f"{without}; sys.exit(main({arguments[verb]}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"penstock: error: {missing} is not installed: pip install 'penstock[train]'\n"
