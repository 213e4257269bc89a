"""What all forecasters share: instance norm, the inputs of a step, loss, quantiles and their calibration.

Every series is an example of its own, and all share the weights.

Dimensions: B batch, L window, H horizon, M numbers of a step (see `outputs`), Q quantiles, W width of a step
of the recurrence, K features of a step known in advance, P features known up to now.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from penstock.tasks.forecast.calibration import Calibration
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.inputs import Inputs
from penstock.tasks.forecast.norms import InstanceNorm, Window
from penstock.tasks.forecast.outputs import output_of
from penstock.training.job import Batch, TaskModel
from penstock.training.measure import to_device


class Outputs(NamedTuple):
    """The numbers of every coming step (B, H, M), and what was taken out of the windows."""

    raw: Tensor
    window: Window


class Forecaster(TaskModel):
    """The coming H steps of a series from a window of L past ones.

    Args:
        config: window, horizon, decoder, layers, loss.
        inputs: the arguments of `Inputs`.
        missing: whether the model is told which values of the window are not their own.
        series: N, those of the training data, of which each may have a vector of its own.

    Attributes:
        output: what the M numbers of a step mean.
        calibration: what corrects the intervals, or None.
    """

    def __init__(self, config: Config, inputs: dict[str, Any], missing: bool, series: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = Inputs(**inputs)
        self.missing = missing
        self.norm = InstanceNorm(config.norm)
        self.output = output_of(config.loss, config.quantiles)
        self.calibration = Calibration(self.output.levels, config.horizon) if config.calibrate else None
        self.step_size = 1 + missing + self.inputs.known_size + self.inputs.past_size
        self.embedded = series if config.series_embedding else 0

    def steps(self, values: Tensor, observed: Tensor, features: Tensor | None) -> Tensor:
        """Inputs (B, T, W) from values (B, T), whether they are observed, and features (B, T, K + P)."""
        channels = [values.unsqueeze(2)]
        if self.missing:
            channels.append(1 - observed.unsqueeze(2))
        if features is not None:
            channels.append(features)
        return torch.cat(channels, 2)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Mean over the known targets."""
        each = self.output.loss(outputs.raw, outputs.window, batch["targets"])
        return (each * batch["known"]).sum() / batch["known"].sum().clamp(min=1)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], device: torch.device | str) -> None:
        """Fit `calibration`, where there is one, on data that the model was not trained on."""
        if self.calibration is None:
            return
        self.to(device).eval()
        scores = []
        for batch in (to_device(batch, device) for batch in batches):
            outputs = self(batch)
            found = self.uncalibrated(outputs, batch)
            each = self.calibration.scores(found, outputs.window, batch["targets"], batch["known"])
            scores.append(each.cpu())
        self.calibration.fit(scores)

    @torch.no_grad()
    def forecast(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Quantiles (B, H, Q), standardised, rising along Q, or (B, H, 1) where there is a single value."""
        found = self.uncalibrated(outputs, batch)
        return found if self.calibration is None else self.calibration(found, outputs.window)

    def uncalibrated(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The same before calibration."""
        return self.output.quantiles(outputs.raw, outputs.window)
