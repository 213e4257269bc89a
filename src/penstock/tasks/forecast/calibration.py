"""Intervals made wider or narrower until they cover what they should: conformalized quantile regression
(Romano, Patterson & Candes 2019), on data that the network was not trained on.

Dimensions: B batch, H horizon, Q quantiles, I intervals.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from penstock.tasks.forecast.norms import Window
from penstock.tasks.forecast.outputs import intervals


class Calibration(nn.Module):
    """Moves both ends of every interval outwards by a margin, one for every step of the horizon.

    Margins are in units of the window's scale, and negative where the interval was too wide; but no end
    passes the median. They are 0 until `fit`, and stored with the weights.
    """

    margins: Tensor

    def __init__(self, levels: list[float], horizon: int) -> None:
        super().__init__()
        self.levels = levels
        self.ends = list(intervals(levels).values())
        self.register_buffer("margins", torch.zeros(horizon, len(self.ends)))

    def forward(self, found: Tensor, window: Window) -> Tensor:
        """Calibrated quantiles (B, H, Q), rising along Q."""
        middle = self.levels.index(0.5)
        moved = found.clone()
        for (low, high), margin in zip(self.ends, self.margins.T, strict=True):
            outwards = margin * window.scale[:, None]
            moved[..., low] -= outwards
            moved[..., high] += outwards
        median = found[..., middle : middle + 1]
        lower, upper = moved[..., :middle].minimum(median), moved[..., middle + 1 :].maximum(median)
        return torch.cat([lower, median, upper], -1).sort(-1).values

    def scores(self, found: Tensor, window: Window, targets: Tensor, known: Tensor) -> Tensor:
        """How far each target lies outside of each interval (B, H, I), negative inside, NaN if not `known`.

        Equation 6 of the paper, in units of the window's scale.
        """
        outside = [
            torch.maximum(found[..., low] - targets, targets - found[..., high]) for low, high in self.ends
        ]
        scores = torch.stack(outside, -1) / window.scale[:, None, None]
        return scores.masked_fill(known[..., None] == 0, torch.nan)

    def fit(self, scores: Iterable[Tensor]) -> None:
        """Set the margins by the scores of data that the network was not trained on (equations 7 and 8)."""
        all_scores = torch.cat(list(scores))
        for place, (low, high) in enumerate(self.ends):
            share = self.levels[high] - self.levels[low]
            for step, column in enumerate(all_scores[..., place].unbind(1)):
                self.margins[step, place] = _margin(column[~column.isnan()], share)


def _margin(scores: Tensor, share: float) -> float:
    """Of n scores the one that `share` of n + 1 do not exceed, at most the largest; 0 if there are none."""
    if not len(scores):
        return 0.0
    place = math.ceil(share * (len(scores) + 1) - 1e-9)
    return float(scores.kthvalue(min(place, len(scores))).values)
