"""All steps of the horizon at once: windows read step by step, or by segments.

With segments of n steps this is the network of Lin et al. (2023, "SegRNN: Segment Recurrent Neural Network
for Long-Term Time Series Forecasting"): the recurrence takes a segment a step, and is then run one step more
for every segment of the horizon, each from the same last state with an embedding of its own.
"""

from typing import Any

from torch import nn
from torch.nn import functional as F

from penstock.tasks.encoder import initialize_recurrent, recurrent
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.decoders import SegmentDecoder, StepDecoder
from penstock.tasks.forecast.model import Forecaster, Outputs
from penstock.training.job import Batch


class DirectForecaster(Forecaster):
    """Reads the window and decodes its last state; arguments as those of `Forecaster`."""

    def __init__(self, config: Config, inputs: dict[str, Any], missing: bool, series: int) -> None:
        super().__init__(config, inputs, missing, series)
        self.segmented = config.segment > 1
        width = config.hidden_size if self.segmented else self.step_size
        if self.segmented:
            self.segments = nn.Linear(config.segment * self.step_size, width)
        self.recurrent = recurrent(config, width)
        decoder = SegmentDecoder if self.segmented else StepDecoder
        self.decoder = decoder(config, self.output.numbers, self.inputs.known_size, self.embedded)
        initialize_recurrent(self.recurrent)

    def forward(self, batch: Batch) -> Outputs:
        """The numbers of every coming step, for a batch of `data.collate`."""
        batch = self.inputs(batch)
        values, window = self.norm(batch)
        steps = self.steps(values, batch["observed"], batch.get("features"))
        if self.segmented:
            steps = F.relu(self.segments(steps.unflatten(1, (-1, self.config.segment)).flatten(2)))
        _, state = self.recurrent(steps)
        return Outputs(self.decoder(self.recurrent, state, batch), window)
