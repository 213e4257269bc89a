"""The forecaster: instance norm, segments, recurrent layers, and all steps of the horizon at once.

Every series is an example of its own, and all share the weights. With segments of n steps this is the network
of Lin et al. (2023, "SegRNN: Segment Recurrent Neural Network for Long-Term Time Series Forecasting"): the
recurrence takes a segment a step, and is then run one step more for every segment of the horizon, each from
the same last state with an embedding of its own.

Dimensions: B batch, L window, H horizon, Q forecast values of a step, S segments of the horizon, W width of a
step of the recurrence, F calendar features.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.inputs import Inputs
from penstock.training.job import Batch, TaskModel

_SMALLEST = 1e-5  # added to the variance of a window, which may be constant


class Forecaster(TaskModel):
    """The coming H steps of a series from a window of L past ones.

    Args:
        config: window, horizon, segments, layers, loss.
        inputs: the arguments of `Inputs`.
        missing: whether the model is told which values of the window are not their own.
        series: N, those of the training data, of which each may have a vector of its own.
    """

    def __init__(self, config: Config, inputs: dict[str, Any], missing: bool, series: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = Inputs(**inputs)
        self.missing = missing
        self.norm = InstanceNorm(config.instance_norm)
        step = 1 + missing + self.inputs.known_size + self.inputs.past_size
        self.segmented = config.segment > 1
        width = config.hidden_size if self.segmented else step
        if self.segmented:
            self.segments = nn.Linear(config.segment * step, width)
        self.recurrent = recurrent(config, width)
        values = len(config.quantiles) if config.loss == "quantile" else 1
        decoder = SegmentDecoder if self.segmented else StepDecoder
        self.decoder = decoder(
            config, values, self.inputs.known_size, series if config.series_embedding else 0
        )
        self.quantiles: Tensor
        self.register_buffer("quantiles", torch.tensor(config.quantiles), persistent=False)
        initialize_recurrent(self.recurrent)

    def forward(self, batch: Batch) -> Tensor:
        """Forecasts (B, H, Q), standardised, for a batch of `data.collate`; quantiles rise along Q."""
        batch = self.inputs(batch)
        values, window = self.norm.apply(batch["inputs"], batch["observed"], batch["filled"])
        channels = [values.unsqueeze(2)]
        if self.missing:
            channels.append(1 - batch["observed"].unsqueeze(2))
        if "features" in batch:
            channels.append(batch["features"])
        steps = torch.cat(channels, 2)
        if self.segmented:
            steps = F.relu(self.segments(steps.unflatten(1, (-1, self.config.segment)).flatten(2)))
        _, state = self.recurrent(steps)
        found = self.decoder(self.recurrent, state, batch)
        if self.config.loss == "quantile":
            found = rising(found)
        return found * window.scale[:, None, None] + window.shift[:, None, None]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean over the known targets: of pinball loss (mean over quantiles), squared or absolute error."""
        error = batch["targets"].unsqueeze(2) - outputs
        if self.config.loss == "quantile":
            each = pinball(error, self.quantiles).mean(2)
        else:
            each = (error.square() if self.config.loss == "mse" else error.abs()).squeeze(2)
        return (each * batch["known"]).sum() / batch["known"].sum().clamp(min=1)


class Window(NamedTuple):
    """What was taken out of the windows: `shift` and `scale`, (B,) each."""

    shift: Tensor
    scale: Tensor


class InstanceNorm:
    """Shift and scale every window by its own values, so that level and spread need not be learned.

    "mean" takes the mean and the standard deviation (Kim et al. 2022, without their affine weights), "last"
    the last value and no scale (Lin et al. 2023), "off" neither.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def apply(self, values: Tensor, observed: Tensor, filled: Tensor) -> tuple[Tensor, Window]:
        """Normalised (B, L), 0 where `filled` is, and what undoes it; statistics are those of `observed`."""
        ones = values.new_ones(len(values))
        if self.kind == "off":
            return values, Window(0 * ones, ones)
        if self.kind == "last":
            last = values[:, -1]
            return (values - last[:, None]) * filled, Window(last, ones)
        count = observed.sum(1).clamp(min=1)
        mean = (values * observed).sum(1) / count
        variance = ((values - mean[:, None]).square() * observed).sum(1) / count
        scale = (variance + _SMALLEST).sqrt()
        return (values - mean[:, None]) / scale[:, None] * filled, Window(mean, scale)


class StepDecoder(nn.Module):
    """All steps of the horizon from the last state by one linear layer."""

    def __init__(self, config: Config, values: int, features: int, series: int) -> None:
        super().__init__()
        self.horizon, self.directions = config.horizon, 2 if config.bidirectional else 1
        self.dropout = nn.Dropout(config.dropout)
        embedding = config.hidden_size if series else 0
        self.series = SeriesEmbedding(series, embedding) if series else None
        self.output = nn.Linear(
            output_size(config) + config.horizon * features + embedding, config.horizon * values
        )

    def forward(self, layer: nn.Module, state: Any, batch: Batch) -> Tensor:
        """(B, H, Q) from the final `state` of `layer`, and the calendar of the first step."""
        hidden = state[0] if isinstance(state, tuple) else state
        parts = [self.dropout(hidden[-self.directions :].transpose(0, 1).flatten(1))]
        if "coming" in batch:
            parts.append(batch["coming"].flatten(1))
        if self.series is not None:
            parts.append(self.series(batch["series"]))
        return self.output(torch.cat(parts, 1)).unflatten(1, (self.horizon, -1))


class SegmentDecoder(nn.Module):
    """One step of the recurrence for every segment of the horizon, all from the same last state."""

    def __init__(self, config: Config, values: int, features: int, series: int) -> None:
        super().__init__()
        self.horizon, self.segment = config.horizon, config.segment
        width = config.hidden_size
        self.positions = nn.Parameter(torch.randn(math.ceil(config.horizon / config.segment), width) * 0.1)
        self.series = SeriesEmbedding(series, width) if series else None
        self.calendar = nn.Linear(config.segment * features, width, bias=False) if features else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(output_size(config), config.segment * values)

    def forward(self, layer: nn.Module, state: Any, batch: Batch) -> Tensor:
        """(B, H, Q) from the final `state` of `layer` and what is known of every segment."""
        size, count = len(batch["inputs"]), len(self.positions)
        steps = self.positions.expand(size, -1, -1)
        if self.series is not None:
            steps = steps + self.series(batch["series"]).unsqueeze(1)
        if self.calendar is not None:
            coming = F.pad(batch["coming"], (0, 0, 0, count * self.segment - self.horizon))
            steps = steps + self.calendar(coming.unflatten(1, (count, -1)).flatten(2))
        if isinstance(state, tuple):
            state = tuple(part.repeat_interleave(count, 1) for part in state)
        else:
            state = state.repeat_interleave(count, 1)
        outputs, _ = layer(steps.reshape(size * count, 1, -1), state)
        found = self.output(self.dropout(outputs)).view(size, count * self.segment, -1)
        return found[:, : self.horizon]


class SeriesEmbedding(nn.Embedding):
    """A vector of `size` for each of `series` series, and zeros for one that is not among them."""

    def __init__(self, series: int, size: int) -> None:
        super().__init__(series + 1, size, padding_idx=0)
        nn.init.normal_(self.weight, std=0.1)
        self.weight.data[0] = 0.0


def rising(values: Tensor) -> Tensor:
    """(..., Q) to numbers that never fall along Q: each but the first adds its softplus to the one before."""
    return torch.cat([values[..., :1], F.softplus(values[..., 1:])], -1).cumsum(-1)


def pinball(error: Tensor, quantiles: Tensor) -> Tensor:
    """Quantile loss of errors (target - forecast) of shape (..., Q), for quantiles (Q,)."""
    return torch.maximum(quantiles * error, (quantiles - 1) * error)
