"""Training runs as a whole: what they save, how they stop, and that a resumed one equals an unbroken one."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from penstock.errors import InputError
from penstock.training import fit
from penstock.training.observer import Observer
from penstock.training.saved import read_model
from tests.training.toy import ToyJob, ToyMetric, ToyModel, toy_config, troubled


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def interrupt_at(step: int) -> type[ToyJob]:
    def trouble(now: int, loss: Tensor) -> Tensor:
        if now == step:
            signal.raise_signal(signal.SIGINT)
        return loss

    return troubled(trouble)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder and the report of one unbroken run."""
    folder = tmp_path_factory.mktemp("run") / "model"
    return folder, fit(ToyJob, toy_config(folder, average=0.9))


def test_a_run_leaves_a_whole_model(trained: tuple[Path, Any]) -> None:
    folder, report = trained
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files >= {
        "config.json", "config.yaml", "model.safetensors", "words.json", "metrics.json", "README.md",
        "curves.png", "logs/epochs.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt",
    }  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == pytest.approx(report.metrics["test"]["accuracy"], abs=1e-6)
    assert metrics["parameters"] == sum(weight.numel() for weight in ToyModel(8, 0.5).parameters())
    assert report.exit_code == 0


def test_saved_weights_are_those_of_the_best_epoch(trained: tuple[Path, Any]) -> None:
    folder, report = trained
    model = ToyModel(8, 0.5)
    read_model(folder, "toy").load_weights(model)
    best = checkpoint(folder, "best")
    assert best["position"]["epoch"] == report.best_epoch
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, best["state_dict"]["model." + name])


def test_logs_hold_every_epoch(trained: tuple[Path, Any]) -> None:
    folder, report = trained
    with (folder / "logs" / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    best = max(rows, key=lambda row: (float(row["dev_accuracy"]), -float(row["dev_loss"])))
    assert int(best["epoch"]) == report.best_epoch
    board = EventAccumulator(str(folder / "logs")).Reload()
    assert [event.value for event in board.Scalars("epoch/dev_loss")] == pytest.approx(
        [float(row["dev_loss"]) for row in rows], rel=1e-5
    )
    assert {"train/loss", "train/gradient_norm", "train/learning_rate"} <= set(board.Tags()["scalars"])


def test_the_stored_configuration_trains_the_same_model_again(
    trained: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = trained
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    fit(ToyJob, toy_config(**{**stored, "output": tmp_path / "again"}))
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("step", [3, 8, 11, 16])  # mid-epoch and at the end of epochs: there are 8 batches
def test_an_interrupted_and_resumed_run_equals_the_unbroken_one(
    trained: tuple[Path, Any], tmp_path: Path, step: int
) -> None:
    folder, report = trained
    output = tmp_path / "model"
    stopped = fit(interrupt_at(step), toy_config(output, average=0.9))
    assert stopped.interrupted
    assert stopped.exit_code == 130
    assert stopped.epochs == step // 8
    resumed = fit(ToyJob, toy_config(output, average=0.9, resume=True))

    assert resumed.metrics == report.metrics
    assert (output / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    ours, theirs = checkpoint(output), checkpoint(folder)
    for part in ("state_dict", "current_model_state"):
        for name, weight in theirs[part].items():
            assert torch.equal(ours[part][name], weight), f"{part} {name}"
    for number, state in theirs["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(ours["optimizer_states"][0]["state"][number][name], value), name
    history = [
        [{name: entry[name] for name in entry if name != "seconds"} for entry in keeper["history"]]
        for keeper in (ours["callbacks"]["Keeper"], theirs["callbacks"]["Keeper"])
    ]
    assert history[0] == history[1]


# Averaging once the dev data bring nothing new

ASGD = {
    "optimizer": "asgd", "non_monotone": 1, "learning_rate": 0.5, "schedule": "constant", "dropout": 0.0,
    "epochs": 6, "patience": 0, "warmup": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tensor]]:
    """The folder of an unbroken run with asgd, and a weight before each of its steps."""
    folder = tmp_path_factory.mktemp("asgd") / "model"
    seen: list[Tensor] = []

    def note(model: torch.nn.Module, _: Any) -> None:
        if model.training:
            seen.append(model.get_parameter("output.weight").detach().clone())

    class Job(ToyJob):
        def __init__(self, config: Any, data: Path) -> None:
            super().__init__(config, data)
            self.model.register_forward_pre_hook(note)

    fit(Job, toy_config(folder, **ASGD))
    return folder, seen


def test_asgd_averages_from_the_first_epoch_that_is_worse_than_an_old_one(
    averaged: tuple[Path, list[Tensor]],
) -> None:
    folder, seen = averaged
    last = checkpoint(folder)
    history = last["callbacks"]["Keeper"]["history"]
    figures = [entry["dev_accuracy"] for entry in history]
    first = next(i for i in range(2, len(figures)) if figures[i] < max(figures[: i - 1]))
    assert first < len(figures) - 1, "the run is to go on for an epoch"
    current = last["current_model_state"]["model.output.weight"]
    after = torch.stack([*seen[1:], current])
    mean = after[history[first]["step"] :].mean(0)
    torch.testing.assert_close(last["state_dict"]["model.output.weight"], mean)
    assert not torch.allclose(mean, current)


@pytest.mark.parametrize("epoch", [1, -1], ids=["before", "while"])
def test_a_resumed_run_averages_as_the_unbroken_one(
    averaged: tuple[Path, list[Tensor]], tmp_path: Path, epoch: int
) -> None:
    folder, _ = averaged
    history = checkpoint(folder)["callbacks"]["Keeper"]["history"]
    output = tmp_path / "model"
    stopped = fit(interrupt_at(history[epoch]["step"] - 3), toy_config(output, **ASGD))
    assert stopped.interrupted
    fit(ToyJob, toy_config(output, **ASGD, resume=True))
    ours, theirs = checkpoint(output), checkpoint(folder)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        for name, weight in theirs[part].items():
            assert torch.equal(ours[part][name], weight), f"{part} {name}"
    assert (output / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


class Falling(ToyJob):
    """A job whose dev figure gets worse with every epoch."""

    def metric(self) -> ToyMetric:
        return FallingMetric()


class FallingMetric(ToyMetric):
    epochs = 0

    def reset(self) -> None:
        super().reset()
        self.epochs += 1

    def compute(self) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"accuracy": torch.tensor(1 / (1 + self.epochs))}


def test_asgd_is_patient_until_it_averages(tmp_path: Path) -> None:
    options = {"learning_rate": 1e-30, "warmup": 0.0, "patience": 1, "epochs": 5}
    assert fit(ToyJob, toy_config(tmp_path / "one", **options)).epochs == 2
    assert fit(ToyJob, toy_config(tmp_path / "two", optimizer="asgd", **options)).epochs == 5
    options |= {"non_monotone": 2, "patience": 3, "epochs": 9}
    assert fit(Falling, toy_config(tmp_path / "three", optimizer="asgd", **options)).epochs == 4 + 3


def test_a_timed_checkpoint_resumes_after_a_kill(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = trained
    output = tmp_path / "model"
    often = {"average": 0.9, "checkpoint_minutes": 1e-9}

    class Killed(BaseException):
        """Ends a run as `kill -9` does: nothing of ours runs afterwards."""

    def die(step: int, loss: Tensor) -> Tensor:
        if step == 14:
            raise Killed
        return loss

    with pytest.raises(Killed):
        fit(troubled(die), toy_config(output, **often))
    unfinished = tmp_path / "model.training"
    assert not output.exists()
    assert checkpoint(unfinished)["position"] | {"data": ""} == {"epoch": 1, "batch": 5, "data": ""}
    fit(ToyJob, toy_config(output, **often, resume=True))
    assert not unfinished.exists()
    assert (output / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_an_interrupt_before_the_first_epoch_ends_saves_the_current_weights(tmp_path: Path) -> None:
    output = tmp_path / "model"
    report = fit(interrupt_at(2), toy_config(output))
    assert (report.epochs, report.best_epoch, report.metrics) == (0, 0, {})
    model = ToyModel(8, 0.5)
    read_model(output).load_weights(model)
    last = checkpoint(output)["state_dict"]
    assert all(torch.equal(weight, last["model." + name]) for name, weight in model.state_dict().items())


def test_the_handlers_of_signals_come_back(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    fit(interrupt_at(2), toy_config(tmp_path / "model"))
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.fixture
def interruptible():
    """As in a terminal: where the tests run in the background of a shell, they start with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def trouble(step: int, loss: Tensor) -> Tensor:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return loss

    with pytest.raises(KeyboardInterrupt):
        fit(troubled(trouble), toy_config(tmp_path / "model"))
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_keeps_and_names_the_last_good_checkpoint(
    tmp_path: Path, bad: float
) -> None:
    output = tmp_path / "model"
    job = troubled(lambda step, loss: loss * bad if step == 19 else loss)
    with pytest.raises(InputError, match=r"the loss became (nan|inf).*at step 19, in epoch 3") as error:
        fit(job, toy_config(output))
    last = tmp_path / "model.training" / "checkpoints" / "last.ckpt"
    assert str(last) in str(error.value)
    kept = torch.load(last, weights_only=True)
    assert kept["position"]["epoch"] == 2
    assert all(torch.isfinite(weight).all() for weight in kept["state_dict"].values())
    assert not output.exists()
    assert fit(ToyJob, toy_config(output, resume=True, learning_rate=0.001)).epochs == 4


def test_a_loss_that_is_never_finite_leaves_nothing(tmp_path: Path) -> None:
    job = troubled(lambda step, loss: loss * float("nan"))
    with pytest.raises(InputError, match="before the first checkpoint"):
        fit(job, toy_config(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_patience_stops_early(tmp_path: Path) -> None:
    options = {"learning_rate": 1e-30, "warmup": 0.0, "epochs": 50, "patience": 2}
    report = fit(ToyJob, toy_config(tmp_path / "model", **options))
    assert (report.epochs, report.best_epoch) == (3, 1)
    resumed = fit(ToyJob, toy_config(tmp_path / "model", **options, resume=True))
    assert resumed.epochs == 3


def test_resuming_a_finished_run_saves_the_same_model(trained: tuple[Path, Any], tmp_path: Path) -> None:
    folder, report = trained
    output = shutil.copytree(folder, tmp_path / "model")
    again = fit(ToyJob, toy_config(output, average=0.9, resume=True))
    assert (again.metrics, again.epochs) == (report.metrics, report.epochs)
    assert (output / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_overwrite_keeps_the_old_model_until_the_new_one_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "model"
    fit(ToyJob, toy_config(output, epochs=1))
    old = (output / "model.safetensors").read_bytes()

    def look(step: int, loss: Tensor) -> Tensor:
        assert (output / "model.safetensors").read_bytes() == old
        return loss

    with pytest.raises(InputError, match="already holds a model"):
        fit(ToyJob, toy_config(output))
    fit(troubled(look), toy_config(output, seed=2, overwrite=True))
    assert (output / "model.safetensors").read_bytes() != old
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_bug_in_training_leaves_the_old_model_alone(tmp_path: Path) -> None:
    output = tmp_path / "model"
    fit(ToyJob, toy_config(output, epochs=1))
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}

    def fail(step: int, loss: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(troubled(fail), toy_config(output, overwrite=True))
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 9}, "has hidden_size=8, got 9"),
        ({"sentences": 121}, "has sentences=120, got 121"),
        ({"epochs": 1}, "expected at least 2"),
    ],
)
def test_another_training_cannot_be_resumed(tmp_path: Path, options: dict[str, int], message: str) -> None:
    fit(ToyJob, toy_config(tmp_path / "model", epochs=2))
    with pytest.raises(InputError, match=message):
        fit(ToyJob, toy_config(tmp_path / "model", **{"epochs": 2, **options}, resume=True))


def test_changed_data_cannot_be_resumed(tmp_path: Path) -> None:
    fit(ToyJob, toy_config(tmp_path / "model", epochs=1))

    class Changed(ToyJob):
        @classmethod
        def prepare(cls, config: Any, folder: Path) -> None:
            super().prepare(toy_config(config.output, sentences=110), folder)

    with pytest.raises(InputError, match="the data are not those"):
        fit(Changed, toy_config(tmp_path / "model", epochs=2, resume=True))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(ToyJob, toy_config(tmp_path / "model", epochs=1))
    last = tmp_path / "model" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.ckpt: the checkpoint cannot be read"):
        fit(ToyJob, toy_config(tmp_path / "model", epochs=2, resume=True))


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [("adam", "constant"), ("adamw", "linear"), ("sgd", "cosine"), ("adam", "plateau"), ("asgd", "constant")],
)
def test_every_optimizer_and_schedule_learns(tmp_path: Path, optimizer: str, schedule: str) -> None:
    rate = {"sgd": 0.5, "asgd": 4.0}.get(optimizer, 0.02)
    options = {"optimizer": optimizer, "schedule": schedule, "learning_rate": rate, "epochs": 12}
    report = fit(ToyJob, toy_config(tmp_path / "model", dropout=0.1, weight_decay=1e-5, **options))
    assert report.metrics["dev"]["accuracy"] > 0.85


def test_no_such_device_is_said(tmp_path: Path) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has what the test takes for missing")
    with pytest.raises(InputError, match="--device mps: torch finds no such device"):
        fit(ToyJob, toy_config(tmp_path / "model", device="mps"))


def test_threads_are_put_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def look(step: int, loss: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return loss

    fit(troubled(look), toy_config(tmp_path / "model", epochs=1, threads=1))
    assert set(seen) == {1}
    assert torch.get_num_threads() == before
    assert "LOCAL_RANK" not in os.environ


def test_an_observer_hears_of_every_epoch_and_nothing_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[int, str, float]] = []
    observer = Observer(quiet=True, test=False, epoch_ended=lambda *epoch: heard.append(epoch))
    report = fit(ToyJob, toy_config(tmp_path / "model", epochs=2), observer)
    assert [epoch for epoch, *_ in heard] == [1, 2]
    assert {name for _, name, _ in heard} == {report.monitor} == {"accuracy"}
    assert heard[report.best_epoch - 1][2] == report.metrics["dev"]["accuracy"]
    assert list(report.metrics) == ["dev"]
    assert capsys.readouterr() == ("", "")


def test_what_an_observer_raises_ends_the_run_which_can_go_on(
    trained: tuple[Path, Any], tmp_path: Path
) -> None:
    def enough(epoch: int, name: str, figure: float) -> None:
        if epoch == 2:
            raise ZeroDivisionError

    output = tmp_path / "model"
    with pytest.raises(ZeroDivisionError):
        fit(ToyJob, toy_config(output, average=0.9), Observer(epoch_ended=enough))
    assert not output.exists()
    fit(ToyJob, toy_config(output, average=0.9, resume=True))
    assert (output / "model.safetensors").read_bytes() == (trained[0] / "model.safetensors").read_bytes()
