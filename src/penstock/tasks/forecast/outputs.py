"""What the numbers that a network gives for a step mean: quantiles, a single value, or a distribution.

Every output takes the network's numbers (..., M) of normalised windows and answers in standardised values.

Dimensions: B batch, H horizon, M numbers of a step, Q quantiles.
"""

import abc

import torch
from torch import Tensor
from torch import distributions as D
from torch.nn import functional as F

from penstock.tasks.forecast.norms import Window

_SMALLEST = 1e-3  # the least scale of a distribution, standardised: a series may be constant for long
_TINY = 1e-6


class Output(abc.ABC):
    """The meaning of M numbers a step.

    Attributes:
        numbers: M.
        levels: the quantiles that `quantiles` gives, rising, 0.5 among them; empty for a single value.
    """

    numbers: int
    levels: list[float]

    @abc.abstractmethod
    def loss(self, raw: Tensor, window: Window, targets: Tensor) -> Tensor:
        """(B, H), for numbers (B, H, M) and standardised targets (B, H)."""

    @abc.abstractmethod
    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        """(B, H, Q), standardised and rising along Q, for (B, H, M); or (B, H, 1), the single value."""


class Point(Output):
    """A single value, learned by its squared or absolute error."""

    numbers = 1

    def __init__(self, loss: str) -> None:
        self.levels = []
        self._squared = loss == "mse"

    def loss(self, raw: Tensor, window: Window, targets: Tensor) -> Tensor:
        error = targets - window.restore(raw).squeeze(-1)
        return error.square() if self._squared else error.abs()

    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        return window.restore(raw)


class Quantiles(Output):
    """Quantiles, learned by their pinball loss; each is the one below it and something positive."""

    def __init__(self, levels: list[float]) -> None:
        self.levels, self.numbers = levels, len(levels)

    def loss(self, raw: Tensor, window: Window, targets: Tensor) -> Tensor:
        levels = torch.tensor(self.levels, device=raw.device)
        return pinball(targets.unsqueeze(-1) - self.quantiles(raw, window), levels).mean(-1)

    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        return window.restore(rising(raw))


class Distribution(Output):
    """A distribution, learned by its negative log-likelihood; values can be drawn from it."""

    def __init__(self, levels: list[float]) -> None:
        self.levels = levels

    @abc.abstractmethod
    def distribution(self, raw: Tensor, window: Window) -> D.Distribution:
        """(B, H), for numbers (B, H, M)."""

    def sample(self, raw: Tensor, window: Window) -> Tensor:
        """A value, standardised, of each of (B, H, M), by torch's default generator."""
        return self.distribution(raw, window).sample()

    def loss(self, raw: Tensor, window: Window, targets: Tensor) -> Tensor:
        return -self.distribution(raw, window).log_prob(targets)


class Gaussian(Distribution):
    """The normal distribution: mean and standard deviation."""

    numbers = 2

    def distribution(self, raw: Tensor, window: Window) -> D.Normal:
        mean, scale = raw.unbind(-1)
        return D.Normal(*_placed(mean, scale, window), validate_args=False)

    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        found = self.distribution(raw.unsqueeze(-2), window)
        return found.icdf(torch.tensor(self.levels, device=raw.device))


class StudentT(Distribution):
    """Student's t: degrees of freedom above 2, so that there is a variance, location and scale."""

    numbers = 3

    def distribution(self, raw: Tensor, window: Window) -> D.StudentT:
        freedom, mean, scale = raw.unbind(-1)
        return D.StudentT(2 + F.softplus(freedom), *_placed(mean, scale, window), validate_args=False)

    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        from scipy.special import stdtrit  # noqa: PLC0415  (torch has no inverse of its distribution function)

        found = self.distribution(raw.unsqueeze(-2), window)
        standard = stdtrit(found.df.detach().double().cpu().numpy(), self.levels)
        return found.loc + found.scale * torch.from_numpy(standard).to(raw)


class NegativeBinomial(Distribution):
    """Counts: mean and shape, both scaled by the window's 1 + mean (Salinas et al. 2020, section 3.3)."""

    numbers = 2

    def distribution(self, raw: Tensor, window: Window) -> D.NegativeBinomial:
        """Over counts, not standardised, in float64: float32 cannot tell gamma functions of large counts."""
        mean, shape = F.softplus(raw.double()).unbind(-1)
        size = (window.scale * window.unit).double().view(-1, *[1] * (mean.dim() - 1))
        mean, shape = mean * size + _TINY, shape / size.sqrt() + _TINY
        return D.NegativeBinomial(1 / shape, logits=(mean * shape).log(), validate_args=False)

    def sample(self, raw: Tensor, window: Window) -> Tensor:
        return self._standardised(self.distribution(raw, window).sample(), window).to(raw.dtype)

    def loss(self, raw: Tensor, window: Window, targets: Tensor) -> Tensor:
        counts = (targets * window.unit.unsqueeze(-1)).round().double()
        return -self.distribution(raw, window).log_prob(counts).to(raw.dtype)

    def quantiles(self, raw: Tensor, window: Window) -> Tensor:
        from scipy.stats import nbinom  # noqa: PLC0415  (torch has no inverse of its distribution function)

        found = self.distribution(raw.unsqueeze(-2), window)
        count, failures = (part.detach().cpu().numpy() for part in (found.total_count, found.probs))
        counts = torch.from_numpy(nbinom.ppf(self.levels, count, 1 - failures))
        return self._standardised(counts.to(raw.device), window).to(raw.dtype)

    @staticmethod
    def _standardised(counts: Tensor, window: Window) -> Tensor:
        return counts / window.unit.view(-1, *[1] * (counts.dim() - 1))


def _placed(mean: Tensor, scale: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Location and scale of a distribution, standardised."""
    size = window.scale.view(-1, *[1] * (scale.dim() - 1))
    return window.restore(mean), F.softplus(scale) * size + _SMALLEST


DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "gaussian": Gaussian,
    "student-t": StudentT,
    "negative-binomial": NegativeBinomial,
}


def output_of(loss: str, levels: list[float]) -> Output:
    """The output that is learned by `loss`, with these quantiles where it has any."""
    if loss in ("mse", "mae"):
        return Point(loss)
    return DISTRIBUTIONS[loss](levels) if loss in DISTRIBUTIONS else Quantiles(levels)


def rising(values: Tensor) -> Tensor:
    """(..., Q) to numbers that never fall along Q: each but the first adds its softplus to the one before."""
    return torch.cat([values[..., :1], F.softplus(values[..., 1:])], -1).cumsum(-1)


def pinball(error: Tensor, quantiles: Tensor) -> Tensor:
    """Quantile loss of errors (target - forecast) of shape (..., Q), for quantiles (Q,)."""
    return torch.maximum(quantiles * error, (quantiles - 1) * error)


def intervals(levels: list[float]) -> dict[str, tuple[int, int]]:
    """The places of the two ends of every interval from a quantile q to 1 - q, by its share in percent."""
    return {
        f"{100 * (levels[high] - levels[low]):g}": (low, high)
        for low in range(len(levels))
        for high in range(low + 1, len(levels))
        if abs(levels[low] + levels[high] - 1) < 1e-9
    }
