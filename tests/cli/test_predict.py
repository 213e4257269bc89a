"""`penstock predict`: from arguments, files and standard input to lines of JSON, in order."""

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from penstock.cli import main
from tests.cli.command import COMMAND, ENVIRONMENT, penstock
from tests.cli.conftest import Fails


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def predict(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    return lines(capsys.readouterr().out)


def test_arguments_become_lines(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = predict(capsys, model, "a lovely film", "--threads", "1", "dull, awful")
    assert (first["text"], first["label"]) == ("a lovely film", "good")
    assert (second["text"], second["label"]) == ("dull, awful", "bad")
    assert first["probability"] == first["probabilities"]["good"] > 0.5
    assert set(first["probabilities"]) == {"good", "bad"}


def test_files_of_every_kind_give_the_same_lines(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["good film", "", "bad, very bad", "une scène 好"] * 300
    (tmp_path / "texts.txt").write_text("".join(text + "\r\n" for text in texts))
    with gzip.open(tmp_path / "texts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"say": text}) + "\n" for text in texts)
    plain = predict(capsys, model, "--input", tmp_path / "texts.txt")
    assert [line["text"] for line in plain] == texts
    assert predict(capsys, model, "--input", tmp_path / "texts.jsonl.gz", "--text", "say") == plain
    output = tmp_path / "deep" / "answers.jsonl"
    few = ["--batch-tokens", "40", "--output", output]
    assert predict(capsys, model, "--input", tmp_path / "texts.txt", *few) == []
    written = lines(output.read_text())
    assert [line["label"] for line in written] == [line["label"] for line in plain]
    piped = penstock("predict", model, stdin=(tmp_path / "texts.txt").read_bytes())
    assert lines(piped.stdout) == plain
    assert piped.stderr == ""


def test_series_come_back_with_their_ids(
    series_model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predict(capsys, series_model, "--input", data / "steps.csv")
    assert [line["id"] for line in found] == [f"run-{i}" for i in range(60)]
    assert all(set(line) == {"id", "label", "probability", "probabilities"} for line in found)


def test_an_answer_follows_each_line_that_is_typed(model: Path) -> None:
    command = [*COMMAND, "predict", str(model), "--threads", "1"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout  # noqa: PT018
        for text in ("good", "bad"):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["text"] == text
        process.stdin.write("no line end")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["text"] == "no line end"
        assert process.wait() == 0


def test_mistakes_are_said(model: Path, series_model: Path, data: Path, tmp_path: Path, fails: Fails) -> None:
    assert fails("predict", model, "--input", tmp_path / "none.txt").endswith("none.txt: no such file")
    assert "either a file or inputs" in fails("predict", model, "x", "--input", "y.txt")
    assert "no column 'text'" in fails("predict", model, "--input", data / "steps.csv")
    assert "a classifier of series reads a file" in fails("predict", series_model, "x")
    assert "no column 'run'" in fails("predict", series_model, "--input", data / "train.csv")
    assert "unknown argument --text-column" in fails("predict", model, "--text-column", "x")
    (tmp_path / "latin.txt").write_bytes(b"ok\ncaf\xe9\n")
    assert "latin.txt, line 2: expected UTF-8, got the byte 0xe9" in fails(
        "predict", model, "--input", tmp_path / "latin.txt", "--output", tmp_path / "out.jsonl"
    )
    assert not (tmp_path / "out.jsonl").exists()
    done = penstock("predict", model, stdin=b"ok\ncaf\xe9\n", code=2)
    assert done.stderr == "penstock: error: standard input, line 2: expected UTF-8, got the byte 0xe9\n"


def test_an_unknown_task_is_said(model: Path, tmp_path: Path, fails: Fails) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"task": "classify"', '"task": "summarize"'))
    assert f"{config}: unknown task 'summarize', expected one of classify" in fails("predict", folder, "x")
