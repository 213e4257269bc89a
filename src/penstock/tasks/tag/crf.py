"""A linear chain over labels: its log-partition, its best path and its marginals, on ragged batches.

The score of labels y_1..y_n under per-step scores e (the emissions) is

    s(y) = start[y_1] + sum_t e[t, y_t] + sum_{t>1} transitions[y_{t-1}, y_t] + end[y_n]

and a conditional random field (Lafferty et al. 2001) is p(y) = exp(s(y) - log Z). The forward algorithm gives
log Z, Viterbi's the y of the highest score. Both go step by step over time, all rows of a batch at once.

Dimensions: B batch, T time, K labels. Lengths are int64 (B,), each at least 1; what lies beyond is not read.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

# Low enough that no learned score outweighs it, finite so that sequences without any valid path still decode.
FORBIDDEN = -1e4


class Chain(NamedTuple):
    """Scores of starting with, following by, and ending with a label."""

    start: Tensor  # (K,)
    transitions: Tensor  # (K, K), from row to column
    end: Tensor  # (K,)

    def restricted_to(self, allowed: Tensor) -> "Chain":
        """The chain with a prohibitive score for every transition that is not allowed.

        Args:
            allowed: bool (K+1, K+1), as `penstock.tasks.tag.spans.allowed_transitions` returns it.
        """
        penalty = torch.zeros_like(allowed, dtype=self.start.dtype).masked_fill(~allowed, FORBIDDEN)
        return Chain(
            self.start + penalty[-1, :-1],
            self.transitions + penalty[:-1, :-1],
            self.end + penalty[:-1, -1],
        )


class ChainParameters(nn.Module):
    """The learned scores of a conditional random field over `labels` labels, all zero at first."""

    def __init__(self, labels: int):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(labels))
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.end = nn.Parameter(torch.zeros(labels))

    def forward(self) -> Chain:
        return Chain(self.start, self.transitions, self.end)


def zero_chain(emissions: Tensor) -> Chain:
    """The chain under which every step is decided by its emissions alone."""
    labels = emissions.shape[2]
    return Chain(
        emissions.new_zeros(labels), emissions.new_zeros(labels, labels), emissions.new_zeros(labels)
    )


def log_partition(emissions: Tensor, lengths: Tensor, chain: Chain) -> Tensor:
    """log Z, the log of the summed exponential scores of all paths.

    Args:
        emissions: (B, T, K).
        lengths: (B,).

    Returns:
        (B,), differentiable in emissions and chain.
    """
    first, *rest = emissions.unbind(1)
    alpha = chain.start + first  # (B, K): log of all paths that stand at a label
    for t, step in enumerate(rest, start=1):
        following = torch.logsumexp(alpha[:, :, None] + chain.transitions, dim=1) + step
        alpha = torch.where((t < lengths)[:, None], following, alpha)
    return torch.logsumexp(alpha + chain.end, dim=1)


def path_score(emissions: Tensor, labels: Tensor, lengths: Tensor, chain: Chain) -> Tensor:
    """The score s(y) of given labels, int64 (B, T), for every row: (B,)."""
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
    labels = labels.masked_fill(~inside, 0)
    emitted = emissions.gather(2, labels[:, :, None])[:, :, 0].where(inside, 0).sum(1)
    followed = chain.transitions[labels[:, :-1], labels[:, 1:]].where(inside[:, 1:], 0).sum(1)
    last = labels.gather(1, lengths[:, None] - 1)[:, 0]
    return chain.start[labels[:, 0]] + emitted + followed + chain.end[last]


def viterbi(emissions: Tensor, lengths: Tensor, chain: Chain) -> Tensor:
    """The labels of the path with the highest score, int64 (B, T); beyond a length the last label repeats."""
    first, *rest = emissions.unbind(1)
    best = chain.start + first  # (B, K): score of the best path that ends at a label
    stay = torch.arange(emissions.shape[2], device=emissions.device).expand(best.shape)
    origins = []
    for t, step in enumerate(rest, start=1):
        score, origin = (best[:, :, None] + chain.transitions).max(dim=1)
        runs = (t < lengths)[:, None]
        best = torch.where(runs, score + step, best)
        origins.append(torch.where(runs, origin, stay))
    path = [(best + chain.end).argmax(dim=1)]
    for origin in reversed(origins):
        path.append(origin.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1)


def marginals(emissions: Tensor, lengths: Tensor, chain: Chain) -> Tensor:
    """The probability of each label at each step over all paths, (B, T, K), zero beyond a length.

    It is the gradient of log Z with respect to the emissions.
    """
    with torch.enable_grad():
        emissions = emissions.detach().requires_grad_()
        detached = Chain(*(scores.detach() for scores in chain))
        (probability,) = torch.autograd.grad(log_partition(emissions, lengths, detached).sum(), emissions)
    return probability
