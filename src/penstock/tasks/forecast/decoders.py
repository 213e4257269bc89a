"""From the last state of the recurrence to the numbers of every step of the horizon.

Dimensions: B batch, H horizon, M numbers of a step (see `outputs`), R outputs of the recurrence, K features
of a coming step.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penstock.tasks.encoder import output_size
from penstock.tasks.forecast.config import Config
from penstock.training.job import Batch


class StepHead(nn.Module):
    """What the features of a step add to its numbers: one hidden layer over the state and the features."""

    def __init__(self, size: int, features: int, width: int, numbers: int) -> None:
        super().__init__()
        self.state = nn.Linear(size, width)
        self.features = nn.Linear(features, width, bias=False)
        self.output = nn.Linear(width, numbers)

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        """(B, T, M) from states (B, T or 1, R) and features (B, T, K)."""
        return self.output(F.relu(self.state(hidden) + self.features(features)))


class StepDecoder(nn.Module):
    """All steps of the horizon from the last state by one linear layer, and what is known of each step."""

    def __init__(self, config: Config, numbers: int, features: int, series: int) -> None:
        super().__init__()
        self.horizon, self.directions = config.horizon, 2 if config.bidirectional else 1
        self.dropout = nn.Dropout(config.dropout)
        self.series = SeriesEmbedding(series, config.hidden_size) if series else None
        size = output_size(config) + (config.hidden_size if series else 0)
        self.output = nn.Linear(size, config.horizon * numbers)
        self.known = StepHead(size, features, config.hidden_size, numbers) if features else None

    def forward(self, layer: nn.Module, state: Any, batch: Batch) -> Tensor:
        """(B, H, M) from the final `state` of `layer`, and the features of the coming steps."""
        hidden = state[0] if isinstance(state, tuple) else state
        last = self.dropout(hidden[-self.directions :].transpose(0, 1).flatten(1))
        if self.series is not None:
            last = torch.cat([last, self.series(batch["series"])], 1)
        found = self.output(last).unflatten(1, (self.horizon, -1))
        return found if self.known is None else found + self.known(last.unsqueeze(1), batch["coming"])


class SegmentDecoder(nn.Module):
    """One step of the recurrence for every segment of the horizon, all from the same last state."""

    def __init__(self, config: Config, numbers: int, features: int, series: int) -> None:
        super().__init__()
        self.horizon, self.segment = config.horizon, config.segment
        width = config.hidden_size
        self.positions = nn.Parameter(torch.randn(math.ceil(config.horizon / config.segment), width) * 0.1)
        self.series = SeriesEmbedding(series, width) if series else None
        self.known = nn.Linear(config.segment * features, width, bias=False) if features else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(output_size(config), config.segment * numbers)

    def forward(self, layer: nn.Module, state: Any, batch: Batch) -> Tensor:
        """(B, H, M) from the final `state` of `layer` and what is known of the steps of every segment."""
        size, count = len(batch["inputs"]), len(self.positions)
        steps = self.positions.expand(size, -1, -1)
        if self.series is not None:
            steps = steps + self.series(batch["series"]).unsqueeze(1)
        if self.known is not None:
            steps = steps + self.known(self._by_segment(batch["coming"]))
        if isinstance(state, tuple):
            state = tuple(part.repeat_interleave(count, 1) for part in state)
        else:
            state = state.repeat_interleave(count, 1)
        outputs, _ = layer(steps.reshape(size * count, 1, -1), state)
        found = self.output(self.dropout(outputs)).view(size, count * self.segment, -1)
        return found[:, : self.horizon]

    def _by_segment(self, coming: Tensor) -> Tensor:
        """(B, H, K) to (B, segments, segment x K), with zeros behind the horizon."""
        behind = len(self.positions) * self.segment - self.horizon
        return F.pad(coming, (0, 0, 0, behind)).unflatten(1, (-1, self.segment)).flatten(2)


class SeriesEmbedding(nn.Embedding):
    """A vector of `size` for each of `series` series, and zeros for one that is not among them."""

    def __init__(self, series: int, size: int) -> None:
        super().__init__(series + 1, size, padding_idx=0)
        nn.init.normal_(self.weight, std=0.1)
        self.weight.data[0] = 0.0
