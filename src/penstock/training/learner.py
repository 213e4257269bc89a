"""The task's model as Lightning trains it: steps, optimizer, learning rate, clipping."""

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
import torchmetrics
from torch import Tensor

from penstock.training.config import TrainingOptions
from penstock.training.device import seed_generators
from penstock.training.groups import LayerGroups
from penstock.training.job import Batch, TaskModel
from penstock.training.schedule import Schedule

if TYPE_CHECKING:
    from penstock.training.job import Metric


class Learner(pl.LightningModule):
    """Train `model` by `config`, measuring `metric` on the dev data after every epoch.

    Args:
        model: knows its outputs and its loss.
        metric: updated with outputs and batch, computes a dictionary of figures.
        config: optimizer, learning rate, clipping, seed.
        steps: optimizer steps of the whole run.
    """

    def __init__(self, model: TaskModel, metric: "Metric", config: TrainingOptions, steps: int) -> None:
        super().__init__()
        self.model = model
        self.metric = metric
        self.dev_loss = torchmetrics.MeanMetric()
        self.config = config
        self.schedule = Schedule(config.schedule, config.warmup, steps)
        self.groups = LayerGroups(model, config.unfreeze_every, config.layer_decay)
        self.gradient_norm = torch.tensor(0.0)

    def forward(self, batch: Batch) -> Any:
        return self.model(batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.model.loss(self.model(batch), batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        outputs = self.model(batch)
        self.dev_loss.update(self.model.loss(outputs, batch), weight=self.model.weight(batch))
        self.metric.update(outputs, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        config = self.config
        parameters = self.groups.for_optimizer()
        shared = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
        if config.optimizer in ("sgd", "asgd"):
            momentum = config.momentum if config.optimizer == "sgd" else 0.0
            return torch.optim.SGD(parameters, momentum=momentum, **shared)
        kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, betas=(config.momentum, 0.999), **shared)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed, learning rates and frozen layers follow from the step alone: a resumed run repeats them."""
        step = self.trainer.global_step
        seed = np.random.SeedSequence([self.config.seed, self.trainer.global_rank, step]).generate_state(2)
        seed_generators(self.device, int(seed[0]) << 31 ^ int(seed[1]))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate * group["rate"]
        self.groups.freeze(self.trainer.current_epoch)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the coming step, of the top layers."""
        return self.config.learning_rate * self.schedule.factor(self.trainer.global_step)

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        """Clip, and keep the norm from before: it is logged, and tells of a run that diverges."""
        limit = self.config.clip_norm or float("inf")
        self.gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["schedule_drops"] = self.schedule.drops
        checkpoint["carried"] = _of_every_process(self.model.carried())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.schedule.drops = checkpoint["schedule_drops"]
        carried, rank = checkpoint["carried"], self.trainer.global_rank
        if rank < len(carried):
            self.model.carry(carried[rank])


def _of_every_process(value: Any) -> list[Any]:
    """The value of each process, in every process: one of them alone writes the checkpoint."""
    if value is None or not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
