"""How well a text is predicted: nats, perplexity, bits per character."""

import math

import torch
import torchmetrics
from torch import Tensor

from penstock.tasks.lm.data import IGNORED
from penstock.tasks.lm.model import Outputs
from penstock.training.job import Batch


class LmMetric(torchmetrics.Metric):
    """Sums nats, tokens and characters over batches and processes."""

    full_state_update = False
    nats: Tensor
    tokens: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("nats", "tokens", "characters"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Add a batch."""
        self.nats += outputs.nats.sum(dtype=torch.float64)
        self.tokens += (batch["targets"] != IGNORED).sum()
        self.characters += batch["characters"].double().sum()

    def compute(self) -> dict[str, Tensor]:
        """Perplexity; nats per token; and bits per character, which compares models of different levels."""
        nats = self.nats / self.tokens.clamp(min=1)
        bits = self.nats / math.log(2) / self.characters.clamp(min=1)
        return {"perplexity": nats.exp(), "nats": nats, "bits_per_character": bits}
