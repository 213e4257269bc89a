"""What the terminal shows while a model trains: a bar when it is one, a line an epoch in any case."""

from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from penstock.training.keeper import Keeper
from penstock.training.report import duration

_SMOOTHING = 0.98  # of the loss shown, a step


class _Figures(ProgressColumn):
    """Loss and dev metric, in the fields of the task."""

    def render(self, task: Task) -> Text:
        return Text("  ".join(f"{name} {value}" for name, value in task.fields["figures"].items()))


class ProgressBar(pl.Callback):
    """Loss, metric and time left.

    Args:
        console: where to show it; without a terminal, one plain line an epoch.
        keeper: has the history.
        monitor: the name of the metric to show.
        epochs: of the whole run.
    """

    def __init__(self, console: Console, keeper: Keeper, monitor: str, epochs: int) -> None:
        self.keeper = keeper
        self.monitor = monitor
        self.epochs = epochs
        self.console = console
        self._loss: float | None = None
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            _Figures(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = self.epochs * int(trainer.num_training_batches)
        self._task = self._bar.add_task("", total=total, completed=trainer.global_step, epoch="", figures={})
        self._bar.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._bar.stop()

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.console.is_terminal:
            return
        loss = float(outputs["loss"])
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        figures = {"loss": f"{self._loss:.4f}"}
        if self.keeper.history:
            figures[f"dev {self.monitor}"] = f"{self.keeper.history[-1]['dev_' + self.monitor]:.4f}"
        epoch = f"{trainer.current_epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
        self._bar.update(self._task, completed=trainer.global_step, epoch=epoch, figures=figures)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entry = self.keeper.history[-1]
        figures = (
            f"epoch {entry['epoch']:>{len(str(self.epochs))}}/{self.epochs}",
            f"loss {entry['train_loss']:.4f}",
            f"dev loss {entry['dev_loss']:.4f}",
            f"dev {self.monitor.replace('_', ' ')} {entry['dev_' + self.monitor]:.4f}",
            duration(entry["seconds"]),
            "[bold green]best[/]" if self.keeper.best is entry else "",
        )
        self.console.print("   ".join(figures).rstrip(), soft_wrap=True)
        if self.keeper.averaging is entry:
            self.console.print("the weights are averaged from here on")
