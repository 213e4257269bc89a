"""`penstock search` as a user meets it."""

import csv
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from penstock.cli import main
from tests.cli.command import COMMAND, ENVIRONMENT, penstock
from tests.cli.conftest import Fails
from tests.tasks.classify.files import FLAGS

BRIEF = [*FLAGS, "--epochs", "2", "--embedding-size", "4"]
SPACE = """\
learning_rate: {low: 1e-3, high: 3e-2, log: true}
pooling: [mean, max]
"""


def words(data: Path, output: Path, *options: str | Path) -> list[str]:
    file = data / "train.csv"
    found = ["search", "classify", file, "--text", "text", "--label", "mood", "--output", output, *options]
    return [*map(str, found), *(word for word in _without_rate(BRIEF))]


def _without_rate(flags: list[str]) -> list[str]:
    """The learning rate is what is searched."""
    at = flags.index("--learning-rate")
    return flags[:at] + flags[at + 2 :]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return file


def test_a_killed_search_goes_on_with_the_same_command(data: Path, tmp_path: Path, space: Path) -> None:
    output = tmp_path / "found"
    command = words(data, output, "--search", space, "--trials", "3", "--test", data / "test.csv")
    with subprocess.Popen([*COMMAND, *command], env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        checkpoint = output / "trials" / "2.training" / "checkpoints" / "last.ckpt"
        while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert checkpoint.exists()
    assert (output / "best" / "model.safetensors").exists()
    done = penstock(*command)
    assert "trial 1/3" not in done.stdout
    assert "trial 2/3   complete" in done.stdout
    assert "3 of 3 trials: 3 complete" in done.stdout
    assert "test" in json.loads((output / "best" / "metrics.json").read_text())
    with (output / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["pooling"] for row in rows} <= {"mean", "max"}
    assert all(1e-3 <= float(row["learning_rate"]) <= 3e-2 for row in rows)
    answer = penstock("predict", output / "best", "a lovely and splendid film")
    assert '"label": "good"' in answer.stdout


def test_help_says_what_options_mean_in_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search"]) == 0
    assert "\n  forecast " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["search", "tag", "--help"])
    shown = capsys.readouterr().out
    assert "folder of the search; the best model is in OUTPUT/best" in " ".join(shown.split())
    assert "--trials N" in shown
    assert "--hidden-size N" in shown
    assert "--resume" not in shown


def test_mistakes_are_said(data: Path, tmp_path: Path, space: Path, fails: Fails) -> None:
    command = words(data, tmp_path / "found")
    assert fails(*command, "--trials", "0") == "--trials: expected a whole number at least 1, got '0'"
    assert fails(*command, "--timeout", "soon").startswith("--timeout: expected a number above 0, got 'soon'")
    assert fails("search", "tags").startswith("unknown task 'tags', expected one of classify, tag")
    sentence = fails(*command, "--search", space, "--pooling", "max")
    assert sentence == f"--pooling: given as a flag and searched by {space}; leave one out"
    space.write_text("pooling: [mean, most]\n")
    assert f"{space}: pooling: 'most': input should be 'last', " in fails(*command, "--search", space)
    space.write_text("poolin: [mean]\n")
    assert "unknown key 'poolin' (did you mean 'pooling'?)" in fails(*command, "--search", space)
    assert not (tmp_path / "found").exists()


def test_what_a_configuration_file_gives_is_not_searched(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("layers: 1\ndropout: 0.3\npooling: mean\nweight_decay: 0.0\n")
    command = words(data, tmp_path / "found", "--config", config, "--trials", "1")
    assert main([*command, "--epochs", "1"]) == 0
    with (tmp_path / "found" / "trials.csv").open() as file:
        names = next(csv.reader(file))
    assert names == ["trial", "state", "accuracy", "epochs", "seconds", "learning_rate", "note"]
    assert "1 of 1 trials: 1 complete" in capsys.readouterr().out
