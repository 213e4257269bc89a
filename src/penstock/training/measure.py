"""A model's figures on data: the one loop of evaluation."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from penstock.training.job import Batch, TaskModel

if TYPE_CHECKING:
    from penstock.training.job import Metric


@torch.no_grad()
def measure(
    model: TaskModel,
    metric: "Metric",
    batches: Iterable[Batch],
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Feed every batch to `model` and `metric`.

    Args:
        model: put into evaluation mode and onto `device`.
        metric: updated with outputs and batch; with several processes, summed over them.
        batches: this process's share of the data.
        device: where to compute.

    Returns:
        "loss", the mean over examples, and what `metric.compute()` returns.
    """
    model.to(device).eval()
    metric.to(device)
    from torchmetrics import MeanMetric  # noqa: PLC0415  (slow to import; predicting needs only `to_device`)

    loss = MeanMetric().to(device)
    for batch in (to_device(batch, device) for batch in batches):
        outputs = model(batch)
        loss.update(model.loss(outputs, batch), weight=model.weight(batch))
        metric.update(outputs, batch)
    return {"loss": loss.compute(), **metric.compute()}


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """The batch with all its tensors on `device`."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
