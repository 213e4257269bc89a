"""`penstock train classify`, mostly as a real process, and every mistake a user can make."""

import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from penstock.cli import main
from penstock.training.saved import read_model
from tests.cli.command import COMMAND, ENVIRONMENT, penstock
from tests.cli.conftest import Fails
from tests.tasks.classify.files import FLAGS


def texts(data: Path, output: Path) -> list[str | Path]:
    return [
        "train",
        "classify",
        data / "train.csv",
        "--text",
        "text",
        "--label",
        "mood",
        "--output",
        output,
        *FLAGS,
    ]


def test_a_run_without_a_terminal_is_plain_text(data: Path, tmp_path: Path) -> None:
    done = penstock(*texts(data, tmp_path / "model"), "--test", data / "test.csv")
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("epoch")] == [
        ["epoch", "1/3"],
        ["epoch", "2/3"],
        ["epoch", "3/3"],
    ]
    assert "train 450, dev 50, test 60 examples" in lines
    assert any(line.split() == ["dev", "test"] for line in lines)
    assert any(line.split() == ["model", str(tmp_path / "model")] for line in lines)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_two_processes_train_one_model(data: Path, tmp_path: Path) -> None:
    done = penstock(*texts(data, tmp_path / "model"), "--processes", "2", "--test", data / "test.csv")
    assert done.stdout.count("epoch 1/3") == 1
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    metrics = read_model(tmp_path / "model").metrics
    assert metrics["test"]["accuracy"] > 0.9
    figures = tmp_path / "figures.json"
    penstock("evaluate", tmp_path / "model", data / "test.csv", "--json", figures)
    found = json.loads(figures.read_text())["metrics"]
    assert found == pytest.approx(metrics["test"], abs=1e-5)


def test_a_process_that_dies_ends_the_run(data: Path, tmp_path: Path) -> None:
    command = [*COMMAND, *map(str, texts(data, tmp_path / "model"))]
    command += ["--processes", "2", "--epochs", "10000", "--patience", "0"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(tmp_path / "model.training" / "checkpoints" / "last.ckpt", process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            process.kill()
            pytest.skip("this system does not tell of a process's children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 2
    assert shown == (
        "penstock: error: training process 1 ended with code -9; --resume goes on from the last checkpoint\n"
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.1)


def start_long(data: Path, output: Path) -> subprocess.Popen[str]:
    """A training that would take long, once its first epoch has ended."""
    command = [*COMMAND, *map(str, texts(data, output)), "--epochs", "100000", "--patience", "0"]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(output.with_name(output.name + ".training") / "checkpoints" / "last.ckpt", process)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_leaves_a_usable_model(data: Path, tmp_path: Path, number: int) -> None:
    with start_long(data, tmp_path / "model") as process:
        process.send_signal(number)
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; --resume goes on from here" in shown
    assert errors == "stopping after this batch; Ctrl-C again stops at once\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert main(["evaluate", str(tmp_path / "model"), str(data / "test.csv")]) == 0


def test_a_killed_training_is_resumed(data: Path, tmp_path: Path, fails: Fails) -> None:
    output = tmp_path / "model"
    with start_long(data, output) as process:
        process.kill()
    assert not output.exists()
    assert "an unfinished training lies here" in fails(*texts(data, output))
    done = yaml.safe_load((tmp_path / "model.training" / "config.yaml").read_text())
    assert done["epochs"] == 100000
    epochs = len((tmp_path / "model.training" / "logs" / "epochs.csv").read_text().splitlines())
    resume = ["train", "classify", "--resume", "--output", str(output), "--epochs", str(epochs + 5)]
    assert main(resume) == 0
    assert read_model(output).metrics["epochs"] == epochs + 5


def test_a_stored_configuration_is_a_configuration(model: Path, tmp_path: Path) -> None:
    again = ["train", "classify", "--config", str(model / "config.yaml"), "--output", str(tmp_path / "again")]
    assert main(again) == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        model / "model.safetensors"
    ).read_bytes()


def test_a_model_is_not_overwritten_unasked(model: Path, data: Path, fails: Fails) -> None:
    before = {file: file.read_bytes() for file in model.rglob("*") if file.is_file()}
    assert "the folder already holds a model" in fails(*texts(data, model))
    assert {file: file.read_bytes() for file in model.rglob("*") if file.is_file()} == before


GOOD = "text,mood\na good film,good\na bad film,bad\n"


def table(content: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "train.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda folder: folder / "none.csv", [], "none.csv: no such file"),
        (lambda folder: folder, [], ": expected a table whose name ends in .csv, "),
        (table(""), [], "train.csv: the file is empty"),
        (table("text,mood\n"), [], "train.csv: expected rows, got none"),
        (table("review,mood\na,b\n"), [], "no column 'text'; the columns are 'review', 'mood'"),
        (table(GOOD + "just one\n"), [], "line 4: expected 2 columns as in the header, got 1"),
        (
            table(GOOD.encode() + b"caf\xe9,good\n"),
            [],
            "train.csv, line 4: expected UTF-8, got the byte 0xe9",
        ),
        (
            table("text,mood\na,good\nb,good\n"),
            [],
            "'mood': expected at least two different labels, got only 'good'",
        ),
        (table(GOOD + "so so,\n"), [], "train.csv, line 4: the column 'mood' is empty"),
        (
            table(GOOD),
            [],
            "train.csv: cannot hold out a fraction of 0.1 of 2 rows with 2 labels; give --dev FILE",
        ),
        (table(GOOD), ["--dev", "none.csv"], "none.csv: no such file"),
        (table(GOOD), ["--vocabulary", "2"], "--vocabulary: expected a whole number at least 3"),
        (
            table(GOOD),
            ["--dropout", "3"],
            "--dropout: expected a number at least 0 and at most 1, got '3'",
        ),
        (table(GOOD), ["--id", "run"], "--text is for texts, --id and --values for series"),
        (table(GOOD), ["--vectors", "none.txt", "--dev", "train.csv"], "none.txt: no such file"),
        (table(GOOD), ["--device", "tpu"], "--device: expected one of auto, cpu, cuda, mps, got 'tpu'"),
        (
            table(GOOD),
            ["--nodes", "2", "--dev", "train.csv"],
            "--nodes 2 needs MASTER_ADDR in the environment",
        ),
    ],
)
def test_mistakes_are_said_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: Fails,
    make: Callable[[Path], Path],
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path)
    words = ["train", "classify", path, "--text", "text", "--label", "mood", "--output", tmp_path / "model"]
    assert sentence in fails(*words, *options)
    assert [entry.name for entry in tmp_path.iterdir()] in ([], ["train.csv"])


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (
            "id,x,label\n1,1,a\n1,nan,a\n2,3,b\n",
            ["--id", "id"],
            "line 3, column 'x': expected a finite number, got nan",
        ),
        (
            "id,x,label\n1,1,a\n1,,a\n2,3,b\n",
            ["--id", "id"],
            "line 3, column 'x': expected a number, got a missing value",
        ),
        ("id,x,label\n1,1,a\n1,2,b\n", ["--id", "id"], "line 3: expected the label 'a'"),
        ("id,x,label\n1,1,a\n2,2,b\n", ["--id", "id", "--values", "x,y"], "no column 'y'"),
        ("id,x,label\n1,1,a\n2,2,b\n", [], "give --text COLUMN for a table of texts, or --id COLUMN"),
        ("id,x,label\n1,a,a\n2,b,b\n", ["--id", "id"], "no numeric columns besides 'id', 'label'"),
    ],
)
def test_mistakes_in_series_are_said(
    tmp_path: Path, fails: Fails, content: str, options: list[str], sentence: str
) -> None:
    (tmp_path / "steps.csv").write_text(content)
    words = ["train", "classify", tmp_path / "steps.csv", "--output", tmp_path / "model", *options]
    assert sentence in fails(*words)


def test_an_unknown_label_in_the_dev_data_is_said(data: Path, tmp_path: Path, fails: Fails) -> None:
    with gzip.open(tmp_path / "dev.jsonl.gz", "wt") as file:
        file.write('{"text": "fine", "mood": "good"}\n{"text": "hm", "mood": "mixed"}\n')
    sentence = fails(*texts(data, tmp_path / "model"), "--dev", tmp_path / "dev.jsonl.gz")
    assert "dev.jsonl.gz, line 2: unknown label 'mixed'; expected one of 'bad', 'good'" in sentence
