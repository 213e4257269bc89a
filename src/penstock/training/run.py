"""The one training path: from a configuration to a saved model."""

import hashlib
import json
import pickle
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from torch.utils.data import DataLoader

from penstock.errors import DivergedError, InputError
from penstock.files import atomic_write
from penstock.training import averaging, curves, launch, layers
from penstock.training.config import TrainingOptions
from penstock.training.device import choose_device, use_threads
from penstock.training.job import Figures, Job, SequenceDataset
from penstock.training.keeper import Diverged, Interrupted, Keeper
from penstock.training.learner import Learner
from penstock.training.loading import measuring_loader, training_loader
from penstock.training.measure import measure
from penstock.training.observer import Observer
from penstock.training.progress import ProgressBar
from penstock.training.quiet import quiet_lightning
from penstock.training.report import Report, make_console, model_card, show_layers, show_report
from penstock.training.saved import save_model
from penstock.training.workspace import Workspace, to_dict, to_yaml

_PIECE = 1 << 20  # lengths hashed at a time


def fit(job_class: type[Job], config: Any, observer: Observer | None = None) -> Report:
    """Train a job by its configuration and save the model in `config.output`.

    Shows its progress on standard output. Ctrl-C (or a termination signal) saves the best model so far.

    Args:
        job_class: what to train.
        config: its validated configuration.
        observer: looks on, in the first process; None for what `penstock train` shows and measures.

    Raises:
        InputError: whatever is wrong with the user's files or options.
        DivergedError: an InputError too; the loss is no longer finite.
    """
    choose_device(config.device)
    config = job_class.resolve(config)
    with use_threads(config.threads or _default_threads(config)):
        if launch.global_rank(config) == 0:
            return _lead(job_class, config, observer or Observer())
        return _follow(job_class, config)


def _lead(job_class: type[Job], config: Any, observer: Observer) -> Report:
    """The process that writes: prepares the data, starts the others, saves the model."""
    workspace = Workspace(config.output)
    with workspace.claim(config):
        return _prepared(job_class, config, workspace.data, observer)


def _follow(job_class: type[Job], config: Any) -> Report:
    """A process that only computes, on data it was given, or has prepared as the first on its machine."""
    quiet = Observer(quiet=True)
    if folder := launch.prepared_data():
        return _Run(job_class, config, folder, quiet).train()
    with TemporaryDirectory(prefix="penstock-") as name:
        return _prepared(job_class, config, Path(name), quiet)


def _prepared(job_class: type[Job], config: Any, folder: Path, observer: Observer) -> Report:
    with _console(observer).status("reading the data"):
        job_class.prepare(config, folder)
    config_file = folder / "config.yaml"
    config_file.write_text(to_yaml(config), encoding="utf-8")
    with launch.other_processes(config, job_class.task, config_file, folder):
        return _Run(job_class, config, folder, observer).train()


def _console(observer: Observer) -> Console:
    return Console(quiet=True) if observer.quiet else make_console()


class _Run:
    """One process's part in a training run."""

    def __init__(self, job_class: type[Job], config: Any, data: Path, observer: Observer) -> None:
        self.started = time.monotonic()
        self.config: TrainingOptions = config
        self.observer = observer
        self.console = _console(observer)
        self.workspace = Workspace(config.output)
        self.rank = launch.global_rank(config)
        self.world_size = config.processes * config.nodes
        torch.manual_seed(config.seed)
        self.job = job_class(config, data)
        self.keeper = Keeper(
            self.workspace,
            self.job.monitor,
            config,
            _fingerprint(self.job),
            self.job.lower_is_better,
            observer,
        )

    def train(self) -> Report:
        if len(self.job.dev_data) < self.world_size and self.rank == 0:  # which ends the others
            raise InputError(
                f"expected at least one example of dev data for each of {self.world_size} processes, "
                f"got {len(self.job.dev_data)}"
            )
        position = self._resumed_position()
        batches = training_loader(self.job, self.rank, self.world_size, **position)
        steps = self.config.epochs * len(batches)
        learner = Learner(self.job.model, self.job.metric(), self.config, steps)
        self._show_start()
        with quiet_lightning():
            trainer = self._trainer()
            self._fit(trainer, learner, batches)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # what is left is for the first process alone
        return self._finish(trainer.strategy.root_device)

    def _resumed_position(self) -> dict[str, int]:
        """The epoch and batch to go on from."""
        if not self.config.resume:
            return {"epoch": 0, "first": 0}
        position = _read_checkpoint(self.workspace.last)["position"]
        if position["data"] != self.keeper.fingerprint:
            raise InputError(
                f"{self.workspace.output}: the data are not those the training to resume was started with"
            )
        if position["epoch"] > self.config.epochs:
            raise InputError(
                f"--epochs {self.config.epochs}: expected at least {position['epoch']}, so many has the "
                "training to resume behind it"
            )
        return {"epoch": position["epoch"], "first": position["batch"]}

    def _trainer(self) -> pl.Trainer:
        config = self.config
        callbacks: list[pl.Callback] = [*self._averaging(), self.keeper]
        if self.rank == 0:
            callbacks.append(ProgressBar(self.console, self.keeper, self.job.monitor, config.epochs))
        return pl.Trainer(
            accelerator={"cuda": "gpu"}.get(config.device, config.device),
            devices=config.processes,
            num_nodes=config.nodes,
            strategy=self._strategy() if self.world_size > 1 else "auto",
            max_epochs=config.epochs,
            callbacks=callbacks,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def _averaging(self) -> list[pl.Callback]:
        """What averages the weights, if anything."""
        if self.config.optimizer == "asgd":
            return [WeightAveraging(avg_fn=averaging.from_step(self.keeper.averaged_from))]
        if self.config.average:
            return [WeightAveraging(avg_fn=averaging.exponential(self.config.average))]
        return []

    def _strategy(self) -> DDPStrategy:
        """Gradients averaged over the processes; those of frozen layers are not waited for."""
        frozen = self.config.unfreeze_every > 0
        return DDPStrategy(broadcast_buffers=False, find_unused_parameters=frozen)

    def _fit(self, trainer: pl.Trainer, learner: Learner, batches: DataLoader) -> None:
        """Train until the end, or until there is a reason to stop."""
        dev = measuring_loader(self.job, self.job.dev_data, self.rank, self.world_size)
        checkpoint = self.workspace.last if self.config.resume else None
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(learner, batches, dev, ckpt_path=checkpoint, weights_only=True)
        except Interrupted:
            pass  # the keeper knows, and has written a checkpoint
        except Diverged as error:
            if self.rank:
                raise SystemExit(1) from None  # the first process says what is to be said
            raise DivergedError(self._diverged(trainer, error)) from None
        except SystemExit:  # Lightning's answer to a second Ctrl-C; it leaves further ones ignored
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None

    def _diverged(self, trainer: pl.Trainer, error: Diverged) -> str:
        sentence = f"{error} at step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        if not self.workspace.last.exists():
            return f"{sentence}, before the first checkpoint: try a smaller --learning-rate or --clip-norm"
        return (
            f"{sentence}; the last good checkpoint is {self.workspace.last}, go on from it with --resume "
            "and a smaller --learning-rate or --clip-norm"
        )

    def _finish(self, device: torch.device) -> Report:
        """Measure the best weights, and let the first process save and show them."""
        best = self.keeper.best
        metrics: dict[str, Figures] = {}
        comparisons: dict[str, dict[str, Figures]] = {}
        if best:
            metrics["dev"] = {name[4:]: value for name, value in best.items() if name.startswith("dev_")}
        if self.rank == 0:
            file = self.workspace.best if best else self.workspace.last
            weights = _read_checkpoint(file)["state_dict"]
            self.job.model.load_state_dict(
                {name.removeprefix("model."): weights[name] for name in weights if name.startswith("model.")}
            )
            self.job.complete(device)
            test = self.job.test_data if self.observer.test and not self.keeper.interrupted else None
            if test is not None:
                metrics["test"] = self._measure(test, device)
                metrics |= self.job.references()
                comparisons = self._compare(device)
        report = Report(
            output=self.config.output,
            metrics=metrics,
            monitor=self.job.monitor,
            comparisons=comparisons,
            parameters=layers.count(self.job.model),
            epochs=len(self.keeper.history),
            best_epoch=int(best["epoch"]) if best else 0,
            seconds=self.keeper.seconds_before + time.monotonic() - self.started,
            interrupted=self.keeper.interrupted,
        )
        if self.rank == 0:
            self._save(report)
            show_report(self.console, report)
        return report

    def _measure(self, data: SequenceDataset, device: torch.device) -> Figures:
        figures = measure(self.job.model, self.job.metric(), measuring_loader(self.job, data), device)
        return {name: float(value) for name, value in figures.items()}

    def _compare(self, device: torch.device) -> dict[str, dict[str, Figures]]:
        """By title, the figures of the model and of slower methods on a part of the test data."""
        with self.console.status("measuring other methods"):
            found = self.job.comparison()
        return {found.title: {"model": self._measure(found.data, device), **found.methods}} if found else {}

    def _save(self, report: Report) -> None:
        folder = self.workspace.folder
        if self.keeper.history:
            title = f"{self.job.task}: {self.workspace.output.name}"
            history, best = self.keeper.history, report.best_epoch
            curves.draw(folder / "curves.png", history, self.job.monitor, best, title)
        with atomic_write(folder / "README.md") as file:
            file.write(model_card(self.job.task, report, to_dict(self.config)))
        save_model(folder, self.job, report.to_json())
        self.workspace.publish()

    def _show_start(self) -> None:
        job = self.job
        if self.rank:
            return
        example = next(iter(measuring_loader(job, job.dev_data)))
        show_layers(self.console, layers.layers(job.model, example))
        sizes = {"train": job.train_data, "dev": job.dev_data, "test": job.test_data}
        counts = ", ".join(f"{name} {len(data):,}" for name, data in sizes.items() if data is not None)
        self.console.print(f"{counts} examples", soft_wrap=True)


def _fingerprint(job: Job) -> str:
    """What a resumed run compares, to be sure that it goes on with the same data and the same vocabulary."""
    digest = hashlib.sha256(json.dumps([job.assets(), job.architecture()], sort_keys=True).encode())
    for data in (job.train_data, job.dev_data):
        for piece in range(0, len(data), _PIECE):
            digest.update(data.lengths[piece : piece + _PIECE].tobytes())
    return digest.hexdigest()


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path}: the checkpoint cannot be read ({error})") from None


def _default_threads(config: TrainingOptions) -> int:
    """All threads torch would use, shared among the processes of this machine."""
    return max(1, torch.get_num_threads() // config.processes)
