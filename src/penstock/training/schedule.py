"""The learning rate over a training run."""

import math
from typing import Literal


class Schedule:
    """A factor for the largest learning rate, for every step of a run.

    It rises linearly from zero over the warm-up; then it stays (constant), falls to zero by the last step
    (linear, cosine), or is halved after every epoch without a better metric (plateau).

    Args:
        kind: what follows the warm-up.
        warmup: share of all steps, from 0 to below 1.
        steps: steps of the whole run.
    """

    def __init__(
        self, kind: Literal["constant", "linear", "cosine", "plateau"], warmup: float, steps: int
    ) -> None:
        self.kind = kind
        self.warmup_steps = round(warmup * steps)
        self.steps = steps
        self.drops = 0

    def factor(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        if self.kind == "linear":
            return 1 - progress
        if self.kind == "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        return 0.5**self.drops

    def epoch_ended(self, improved: bool) -> None:
        """Take note of whether the epoch brought a better metric."""
        if self.kind == "plateau" and not improved:
            self.drops += 1
