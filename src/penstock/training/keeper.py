"""What a run keeps: the history of its epochs, the best and the last checkpoint, and when to stop."""

import csv
import shutil
import signal
import sys
import threading
import time
from typing import Any

import lightning.pytorch as pl
import torch

from penstock.files import atomic_write
from penstock.training.averaging import not_monotone
from penstock.training.config import TrainingOptions
from penstock.training.learner import Learner
from penstock.training.observer import Observer
from penstock.training.tensorboard import SummaryWriter
from penstock.training.workspace import Workspace

_LOG_EVERY = 20  # steps between two points in TensorBoard


class Interrupted(Exception):
    """Ctrl-C or a termination signal, noticed between two batches; the last checkpoint has been written."""


class Diverged(Exception):
    """The loss or its gradient is no longer a finite number."""


class Keeper(pl.Callback):
    """Record every epoch, keep checkpoints, and stop when there is a reason to.

    The best epoch is the one with the highest `monitor` on the dev data (the lowest, where
    `lower_is_better`), and with the lower loss among equals. Checkpoints are written at the end of every
    epoch and at least every `config.checkpoint_minutes`; a resumed run goes on from the last one.

    Attributes:
        history: a dictionary for every epoch: epoch, step, train_loss, dev_loss and the other dev figures,
            learning_rate, seconds.
        best: the entry of the history of the best epoch, or None.
        averaging: the entry of the epoch after which asgd averages the weights, or None.
        fingerprint: of the data trained on; kept in the checkpoints.
        seconds_before: time spent before this run was resumed.
        interrupted: whether a signal has stopped the run.
    """

    def __init__(
        self,
        workspace: Workspace,
        monitor: str,
        config: TrainingOptions,
        fingerprint: str = "",
        lower_is_better: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.workspace = workspace
        self.fingerprint = fingerprint
        self.monitor = f"dev_{monitor}"
        self._sign = -1 if lower_is_better else 1
        self._observer = observer or Observer()
        self.config = config
        self.history: list[dict[str, float]] = []
        self.averaging: dict[str, float] | None = None
        self._dev: dict[str, float] = {}
        self._loss = torch.zeros(2, dtype=torch.float64)  # sum and count over the epoch so far
        self._seconds = 0.0  # spent on this epoch in earlier runs, if this one is resumed
        self.seconds_before = 0.0  # spent in earlier runs altogether
        self._run_started = time.monotonic()
        self._position = {"epoch": 0, "batch": 0}
        self._stop = threading.Event()
        self.interrupted = False
        self._handlers: dict[int, Any] = {}
        self._writer: SummaryWriter | None = None

    @property
    def best(self) -> dict[str, float] | None:
        return max(
            self.history,
            key=lambda entry: (self._sign * entry[self.monitor], -entry["dev_loss"]),
            default=None,
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "loss": self._loss.tolist(),
            "epoch_seconds": self._elapsed(),
            "seconds": self.seconds_before + time.monotonic() - self._run_started,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self._note_averaging()
        self._loss = torch.tensor(state_dict["loss"], dtype=torch.float64)
        self._seconds = state_dict["epoch_seconds"]
        self.seconds_before = state_dict["seconds"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Note where to go on, and with which data: what the loader needs before Lightning loads anything."""
        checkpoint["position"] = {**self._position, "data": self.fingerprint}

    # Start and end

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._saved = time.monotonic()
        if trainer.is_global_zero:
            self._writer = SummaryWriter(str(self.workspace.logs), purge_step=trainer.global_step)
        trainer.should_stop = self._patience_is_over()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        """Stop after the current batch; the second signal does what it always did."""
        self._stop.set()
        if self._writer is not None:
            print("stopping after this batch; Ctrl-C again stops at once", file=sys.stderr)
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._restore_handlers()
        if self._writer is not None:
            self._writer.close()

    # Every batch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        self._loss += torch.tensor([float(loss), 1.0], dtype=torch.float64)
        self._log_step(trainer, pl_module, float(loss))

        due = time.monotonic() - self._saved > 60 * self.config.checkpoint_minutes
        finite = bool(torch.isfinite(loss)) and bool(torch.isfinite(pl_module.gradient_norm))
        diverged, stop, due = _any_process(trainer, not finite, self._stop.is_set(), due)
        if diverged:
            gradient = float(pl_module.gradient_norm)
            raise Diverged(f"the loss became {float(loss):.4g}, the norm of its gradient {gradient:.4g}")
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return  # the epoch ends anyway, with all that belongs to its end
        if stop or due:
            self._position = {"epoch": trainer.current_epoch, "batch": batch_idx + 1}
            self._save(trainer)
        if stop:
            self.interrupted = True
            raise Interrupted

    def _log_step(self, trainer: pl.Trainer, learner: Learner, loss: float) -> None:
        if self._writer is None or trainer.global_step % _LOG_EVERY:
            return
        values = {
            "loss": loss,
            "gradient_norm": learner.gradient_norm,
            "learning_rate": learner.learning_rate,
        }
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", float(value), trainer.global_step)

    # Every epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._seconds = time.monotonic(), 0.0
        self._loss.zero_()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        figures = {"loss": pl_module.dev_loss.compute(), **pl_module.metric.compute()}
        self._dev = {f"dev_{name}": float(value) for name, value in figures.items()}
        pl_module.dev_loss.reset()
        pl_module.metric.reset()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        loss, count = trainer.strategy.reduce(self._loss, reduce_op="sum").tolist()
        self.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": loss / count,
                **self._dev,
                "learning_rate": pl_module.learning_rate,
                "seconds": self._elapsed(),
            }
        )
        self._note_averaging()
        improved = self.best is self.history[-1]
        pl_module.schedule.epoch_ended(improved)
        self._log_epoch()
        self._position = {"epoch": trainer.current_epoch + 1, "batch": 0}
        self._save(trainer, best=improved)
        if trainer.is_global_zero:
            entry = self.history[-1]
            name = self.monitor.removeprefix("dev_")
            self._observer.epoch_ended(int(entry["epoch"]), name, entry[self.monitor])
        (self.interrupted,) = _any_process(trainer, self._stop.is_set())
        trainer.should_stop = self.interrupted or self._patience_is_over()

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._started

    def averaged_from(self) -> int | None:
        """The step from which asgd averages the weights, counted from 0; None before it is known."""
        return None if self.averaging is None else int(self.averaging["step"])

    def _patience_is_over(self) -> bool:
        if not self.config.patience or self.best is None:
            return False
        if self.config.optimizer == "asgd" and self.averaging is None:
            return False  # what would end another run lets this one begin to average
        waits = (self.best, self.averaging or self.best)
        return self.history[-1]["epoch"] - max(entry["epoch"] for entry in waits) >= self.config.patience

    def _note_averaging(self) -> None:
        """Look whether asgd averages from now on."""
        if self.config.optimizer != "asgd":
            return
        figures = [self._sign * entry[self.monitor] for entry in self.history]
        epoch = not_monotone(figures, self.config.non_monotone)
        self.averaging = None if epoch is None else self.history[epoch]

    def _log_epoch(self) -> None:
        if self._writer is None:
            return
        entry = self.history[-1]
        for name, value in entry.items():
            if name.startswith("dev_") or name == "train_loss":
                self._writer.add_scalar("epoch/" + name, value, entry["step"])
        self._writer.flush()
        with atomic_write(self.workspace.logs / "epochs.csv") as file:
            writer = csv.DictWriter(file, entry, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)

    def _save(self, trainer: pl.Trainer, best: bool = False) -> None:
        """Write the checkpoint; the best one first, so that the last one never promises what is not there."""
        self._saved = time.monotonic()
        if best:
            trainer.save_checkpoint(self.workspace.best, weights_only=False)
            if trainer.is_global_zero:
                partial = self.workspace.last.with_suffix(".partial")
                shutil.copy(self.workspace.best, partial)
                partial.replace(self.workspace.last)
        else:
            trainer.save_checkpoint(self.workspace.last, weights_only=False)


def _any_process(trainer: pl.Trainer, *flags: bool) -> tuple[bool, ...]:
    """For each flag, whether any process has it set."""
    if trainer.world_size == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.int32, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
    return tuple(bool(flag) for flag in raised)
