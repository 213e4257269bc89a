"""Searches as a whole: what they keep, how they stop, and that an interrupted one equals an unbroken one."""

import csv
import itertools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from torch import Tensor

from penstock import tasks
from penstock.errors import InputError
from penstock.search import search
from penstock.search.run import Result
from penstock.training import run as training
from penstock.training.saved import read_model
from tests.training.toy import ToyJob, toy_config, troubled

SPACE = {"learning_rate": {"low": 1e-4, "high": 0.03, "log": True}, "optimizer": ["adam", "adamw"]}


@pytest.fixture(autouse=True)
def _toy_is_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "toy", "more ones than twos")
    train(monkeypatch, ToyJob)


def train(monkeypatch: pytest.MonkeyPatch, job: type[ToyJob]) -> None:
    """Let the task "toy" be this job."""
    monkeypatch.setattr(tasks, "get_job", lambda task: job)


def toy_search(folder: Path, space: dict[str, Any] | None = None, **options: Any) -> Result:
    known = {
        name: options.pop(name) for name in ("trials", "timeout", "pruner", "sampler") if name in options
    }
    config = toy_config(folder, **{"epochs": 2, **options})
    return search("toy", config, space or SPACE, **{"trials": 3, **known})


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def without_times(folder: Path) -> list[dict[str, str]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in rows(folder)]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Result]]:
    """The folder and the result of one unbroken search."""
    folder = tmp_path_factory.mktemp("search") / "found"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "toy", "more ones than twos")
        train(patch, ToyJob)
        yield folder, toy_search(folder)


def test_a_search_leaves_the_best_model(searched: tuple[Path, Result]) -> None:
    folder, result = searched
    assert {path.name for path in folder.iterdir()} == {"best", "search.yaml", "study.db", "trials.csv"}
    assert result.best is not None
    figures = [trial.figure for trial in result.trials]
    assert len(figures) == 3
    assert result.best.figure == max(figure for figure in figures if figure is not None)
    assert result.report is not None
    assert result.report.metrics["dev"]["accuracy"] == result.best.figure
    stored = yaml.safe_load((folder / "best" / "config.yaml").read_text())
    assert {name: stored[name] for name in SPACE} == result.best.values
    assert stored["output"] == str(folder / "best")
    assert read_model(folder / "best").task == "toy"
    assert result.exit_code == 0


def test_the_table_of_trials(searched: tuple[Path, Result]) -> None:
    folder, result = searched
    found = rows(folder)
    assert [row["trial"] for row in found] == ["1", "2", "3"]
    for row, trial in zip(found, result.trials, strict=True):
        assert (row["state"], row["epochs"], row["note"]) == ("complete", "2", "")
        assert float(row["accuracy"]) == pytest.approx(trial.figure)
        assert float(row["learning_rate"]) == trial.values["learning_rate"]
        assert row["optimizer"] == trial.values["optimizer"]


def test_test_data_are_looked_at_once_by_the_best_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []
    measure = training.measure

    def note(*arguments: Any) -> Any:
        measured.append(max(tmp_path.rglob("*.training")))
        return measure(*arguments)

    monkeypatch.setattr(training, "measure", note)
    result = toy_search(tmp_path / "found", trials=2, epochs=1)
    assert [path.name for path in measured] == ["best.training"]
    metrics = json.loads((tmp_path / "found" / "best" / "metrics.json").read_text())
    assert result.report is not None
    assert metrics["test"]["accuracy"] == pytest.approx(result.report.metrics["test"]["accuracy"])


def test_the_same_search_finds_the_same(searched: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = searched
    toy_search(tmp_path / "again")
    assert without_times(tmp_path / "again") == without_times(folder)
    assert (tmp_path / "again/best/model.safetensors").read_bytes() == (
        folder / "best/model.safetensors"
    ).read_bytes()


def test_more_trials_go_on_with_those_that_are_there(searched: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = searched
    output = tmp_path / "found"
    for trials in (1, 1, 3):
        assert len(toy_search(output, trials=trials).trials) == trials
    assert without_times(output) == without_times(folder)


class Killed(BaseException):
    """Ends a run as `kill -9` does: nothing of ours runs afterwards."""


def at_step(number: int, happen: Callable[[], None]) -> type[ToyJob]:
    """A job in which something happens at a step counted over all trials."""
    steps = 0

    def trouble(_: int, loss: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == number:
            happen()
        return loss

    return troubled(trouble)


def die() -> None:
    raise Killed


# 16 steps a trial: in the first epoch of a trial, in its second, and in one that is not the first.
@pytest.mark.parametrize("step", [3, 12, 30])
def test_a_killed_search_goes_on_as_if_nothing_had_been(
    searched: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder, _ = searched
    output = tmp_path / "found"
    train(monkeypatch, at_step(step, die))
    with pytest.raises(Killed):
        toy_search(output)
    train(monkeypatch, ToyJob)
    toy_search(output)
    assert without_times(output) == without_times(folder)
    best = (output / "best/model.safetensors").read_bytes()
    assert best == (folder / "best/model.safetensors").read_bytes()
    assert {path.name for path in output.iterdir()} == {"best", "search.yaml", "study.db", "trials.csv"}


def test_a_trial_that_was_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"
    train(monkeypatch, at_step(12, die))
    with pytest.raises(Killed):
        toy_search(output, trials=1)
    assert (output / "trials/1.training/checkpoints/last.ckpt").is_file()
    count = 0

    def tick(_: int, loss: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return loss

    train(monkeypatch, troubled(tick))
    toy_search(output, trials=1)
    assert count == 8  # its second epoch


def test_an_interrupted_search_goes_on(
    searched: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = searched
    output = tmp_path / "found"
    train(monkeypatch, at_step(29, lambda: signal.raise_signal(signal.SIGINT)))
    stopped = toy_search(output)
    assert stopped.exit_code == 130
    assert stopped.report is None
    assert [trial.state for trial in stopped.trials] == ["complete"]
    assert [row["state"] for row in rows(output)] == ["complete", "running"]
    assert (output / "best" / "config.json").is_file()
    train(monkeypatch, ToyJob)
    assert toy_search(output).exit_code == 0
    assert without_times(output) == without_times(folder)


def test_time_that_is_up_leaves_the_running_trial_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "found"
    with pytest.raises(InputError, match="no trial is complete, time was up before"):
        toy_search(output, trials=1, timeout=1e-6)
    assert not output.exists()
    # An hour passes between the start of the trial, which looks at the clock for the third time, and the end
    # of its first epoch.
    seconds = itertools.chain([0.0] * 3, itertools.repeat(3600.0))
    monkeypatch.setattr("penstock.search.run.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with pytest.raises(InputError, match="no trial is complete, time was up before"):
        toy_search(output, trials=1, epochs=500, timeout=1, patience=0)
    assert [row["state"] for row in rows(output)] == ["running"]
    assert (output / "trials/1.training/checkpoints/last.ckpt").is_file()


def test_bad_trials_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "found"
    space = {"learning_rate": [0.02]}

    class Worse(ToyJob):
        """Its sixth trial learns nothing."""

        def __init__(self, config: Any, folder: Path) -> None:
            super().__init__(config, folder)
            if config.output.name == "6":
                for weight in self.model.parameters():
                    weight.data.zero_()

    train(monkeypatch, Worse)
    result = toy_search(output, space, trials=6, epochs=3)
    assert [trial.state for trial in result.trials] == ["complete"] * 5 + ["pruned"]
    assert result.trials[-1].epochs == 2
    unpruned = toy_search(tmp_path / "unpruned", space, trials=1, epochs=3, pruner="none")
    assert unpruned.trials[0].epochs == 3


def test_a_trial_that_diverges_or_cannot_be_is_noted_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fragile(ToyJob):
        """Diverges with a learning rate of 1."""

        def __init__(self, config: Any, folder: Path) -> None:
            super().__init__(config, folder)
            if config.learning_rate == 1:
                vars(self.model)["trouble"] = lambda step, loss: loss * float("nan")

    train(monkeypatch, Fragile)
    output = tmp_path / "found"
    space = {"learning_rate": [0.01, 1.0], "cell": ["lstm", "gru"]}
    result = toy_search(output, space, trials=8, epochs=1, peephole=True)
    for trial in result.trials:
        if trial.values["cell"] == "gru":
            assert trial.state == "impossible"
            assert trial.note == "peephole=True needs cell='lstm', got cell='gru'"
        elif trial.values["learning_rate"] == 1.0:
            assert trial.state == "diverged"
            assert trial.note.startswith("the loss became nan")
        else:
            assert trial.state == "complete"
    assert {trial.state for trial in result.trials} == {"impossible", "diverged", "complete"}
    with pytest.raises(InputError, match="no trial is complete, all 2 trials failed"):
        toy_search(tmp_path / "none", {"cell": ["gru", "rnn"]}, trials=2, peephole=True)


def test_another_search_in_the_folder_is_refused_or_replaced(
    searched: tuple[Path, Result], tmp_path: Path
) -> None:
    output = tmp_path / "found"
    toy_search(output, trials=1, epochs=1)
    with pytest.raises(InputError, match=r"the search there has epochs 1, got 2; choose another output"):
        toy_search(output, trials=1)
    with pytest.raises(InputError, match="the search there has sampler 'tpe', got 'random'"):
        toy_search(output, trials=1, epochs=1, sampler="random")
    toy_search(output, trials=3, overwrite=True)
    assert without_times(output) == without_times(searched[0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds other files and no search"):
        toy_search(tmp_path / "other")


def test_a_mistake_in_the_data_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(ToyJob):
        @classmethod
        def prepare(cls, config: Any, folder: Path) -> None:
            raise InputError("data.csv: no such file")

    train(monkeypatch, Missing)
    with pytest.raises(InputError, match=r"data\.csv: no such file"):
        toy_search(tmp_path / "found")
    assert list(tmp_path.iterdir()) == []
