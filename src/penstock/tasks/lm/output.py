"""From the outputs of the last layer to scores of the next token.

Dimensions: B batch, T time, V tokens, R output of the last layer.
"""

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penstock.tasks.lm.data import IGNORED


class Output(nn.Module, abc.ABC):
    """Scores of V tokens."""

    @abc.abstractmethod
    def forward(self, x: Tensor, targets: Tensor, embedding: Tensor) -> Tensor:
        """The negative log-likelihood of each target.

        Args:
            x: (B, T, R).
            targets: (B, T), `IGNORED` where there is none.
            embedding: the matrix of the embedding, (V, D).

        Returns:
            (B, T), in nats; 0 where there is no target.
        """

    @abc.abstractmethod
    def scores(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The log probabilities of all tokens, (B, V), up to a number for each row of x (B, R)."""


class FullOutput(Output):
    """Every token has a row in one matrix: its own, or if `tied` that of the embedding."""

    def __init__(self, size: int, tokens: int, tied: bool) -> None:
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(tokens, size).uniform_(-0.1, 0.1))
        self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, x: Tensor, targets: Tensor, embedding: Tensor) -> Tensor:
        logits = self.scores(x.flatten(0, 1), embedding)
        nats = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")
        return nats.view(targets.shape)

    def scores(self, x: Tensor, embedding: Tensor) -> Tensor:
        return F.linear(x, embedding if self.weight is None else self.weight, self.bias)


class AdaptiveOutput(Output):
    """Adaptive softmax (Grave et al. 2017, "Efficient softmax approximation for GPUs").

    The tokens before the first cut-off have a row each in the first matrix, and each cluster of rarer ones
    has one row there and small matrices of its own, of R / 4, R / 16, ... columns, which are multiplied only
    with the steps whose target lies in the cluster.

    Args:
        size: R.
        tokens: V.
        cutoffs: ids, the frequent tokens first, at which the clusters begin.
    """

    def __init__(self, size: int, tokens: int, cutoffs: list[int]) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(size, tokens, cutoffs)

    def forward(self, x: Tensor, targets: Tensor, embedding: Tensor) -> Tensor:
        there = targets != IGNORED
        nats = x.new_zeros(targets.shape).masked_scatter(
            there, -self.softmax(x[there], targets[there]).output
        )
        return nats + 0 * self._one_of_each() if self.training else nats

    def scores(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.softmax.log_prob(x)

    def _one_of_each(self) -> Tensor:
        """A sum in which every matrix takes part: processes that train together expect gradients of all."""
        return torch.stack([weight[0, 0] for weight in self.parameters()]).sum()
