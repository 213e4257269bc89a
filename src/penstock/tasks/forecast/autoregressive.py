"""One step of the horizon after the other, by sampling: Salinas et al. (2020), "DeepAR: Probabilistic
Forecasting with Autoregressive Recurrent Networks".

In training the recurrence reads window and targets in one call, and forecasts every target from what stands
before it. A forecast draws paths: each step is a value drawn from its distribution, and the input of the
next. Unlike in the paper, what is known of a step enters the recurrence beside the value of that step, and
its forecast behind the recurrence; and the loss is that of the horizon alone.

Dimensions: as in `model`, and N paths.
"""

from typing import Any

import torch
from torch import Tensor, nn

from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.decoders import SeriesEmbedding, StepHead
from penstock.tasks.forecast.model import Forecaster, Outputs
from penstock.tasks.forecast.outputs import Distribution
from penstock.training.device import seeded
from penstock.training.job import Batch


class AutoregressiveForecaster(Forecaster):
    """Reads its own forecasts; arguments as those of `Forecaster`.

    Attributes:
        samples: paths drawn for a forecast.
    """

    output: Distribution

    def __init__(self, config: Config, inputs: dict[str, Any], missing: bool, series: int) -> None:
        super().__init__(config, inputs, missing, series)
        self.samples = config.samples
        width = config.hidden_size
        self.series = SeriesEmbedding(series, width) if self.embedded else None
        self.recurrent = recurrent(config, self.step_size + (width if self.embedded else 0))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(output_size(config), self.output.numbers)
        known = self.inputs.known_size
        self.known = StepHead(output_size(config), known, width, self.output.numbers) if known else None
        initialize_recurrent(self.recurrent)

    def forward(self, batch: Batch) -> Outputs:
        """The numbers of every coming step, each from the true values before it."""
        batch = self.inputs(batch)
        values, window = self.norm(batch)
        values = torch.cat([values, window.remove(batch["targets"])], 1)
        filled = torch.cat([batch["filled"], batch["known"]], 1)
        observed = torch.cat([batch["observed"], batch["known"]], 1)
        features = batch.get("features")
        if features is not None:
            features = torch.cat([features, self._ahead(batch)], 1)
        steps = self._steps(fill_forward(values, filled), observed, features, batch)
        hidden, _ = self.recurrent(steps[:, :-1])
        raw = self._numbers(hidden[:, self.config.window - 1 :], batch.get("coming"))
        return Outputs(raw, window)

    def uncalibrated(self, outputs: Outputs, batch: Batch) -> Tensor:
        return quantiles_of(self.paths(batch), self.output.levels)

    @torch.no_grad()
    def paths(self, batch: Batch) -> Tensor:
        """Drawn values (B, N, H), standardised, the same for the same batch: the seed is that of training."""
        with seeded(batch["inputs"].device, self.config.seed):
            return self._draw(batch)

    def _draw(self, batch: Batch) -> Tensor:
        batch = self.inputs(batch)
        values, window = self.norm(batch)
        steps = self._steps(values, batch["observed"], batch.get("features"), batch)
        hidden, state = self.recurrent(steps)
        hidden, state = self._repeated(hidden[:, -1:], 0), self._repeated(state, 1)
        each = {name: self._repeated(batch[name], 0) for name in ("series", "coming") if name in batch}
        ahead = self._repeated(self._ahead(batch), 0) if "features" in batch else None
        window = window.repeated(self.samples)
        found: list[Tensor] = []
        for step in range(self.config.horizon):
            this = slice(step, step + 1)
            if found:
                hidden, state = self.recurrent(steps, state)
            coming = each["coming"][:, this] if "coming" in each else None
            found.append(self.output.sample(self._numbers(hidden, coming), window))
            drawn = window.remove(found[-1])
            features = None if ahead is None else ahead[:, this]
            steps = self._steps(drawn, torch.ones_like(drawn), features, each)
        return torch.cat(found, 1).unflatten(0, (-1, self.samples))

    def _ahead(self, batch: Batch) -> Tensor:
        """Features of the horizon (B, H, K + P): of those known up to now nothing is known there, so 0."""
        unknown = batch["targets"].new_zeros(*batch["targets"].shape, self.inputs.past_size)
        return torch.cat([batch["coming"], unknown], 2) if "coming" in batch else unknown

    def _steps(self, values: Tensor, observed: Tensor, features: Tensor | None, batch: Batch) -> Tensor:
        steps = self.steps(values, observed, features)
        if self.series is None:
            return steps
        vectors = self.series(batch["series"]).unsqueeze(1).expand(-1, steps.shape[1], -1)
        return torch.cat([steps, vectors], 2)

    def _numbers(self, hidden: Tensor, features: Tensor | None) -> Tensor:
        """(B, T, P) from outputs of the recurrence, and the features of the steps that are forecast."""
        hidden = self.dropout(hidden)
        found = self.head(hidden)
        return found if self.known is None else found + self.known(hidden, features)

    def _repeated(self, value: Any, dim: int) -> Any:
        """A tensor, or each of a pair, with every row N times."""
        if isinstance(value, tuple):
            return tuple(self._repeated(part, dim) for part in value)
        return value.repeat_interleave(self.samples, dim)


def fill_forward(values: Tensor, known: Tensor) -> Tensor:
    """(B, T), each value that is not `known` replaced by the last known one; those before the first stay."""
    steps = torch.arange(values.shape[1], device=values.device)
    last = torch.where(known > 0, steps, 0).cummax(1).values
    return values.gather(1, last)


def quantiles_of(paths: Tensor, levels: list[float]) -> Tensor:
    """Quantiles (B, H, Q) of paths (B, N, H), between two of them in proportion."""
    ordered = paths.sort(1).values
    place = torch.tensor(levels, dtype=paths.dtype, device=paths.device) * (paths.shape[1] - 1)
    below, above = ordered[:, place.floor().long()], ordered[:, place.ceil().long()]
    return below.lerp(above, place.frac()[:, None]).transpose(1, 2)
