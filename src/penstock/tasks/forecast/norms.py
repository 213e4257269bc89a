"""Instance norm: level and spread of every window are taken out before the network, and then put back."""

from typing import NamedTuple

from torch import Tensor

from penstock.training.job import Batch

_SMALLEST = 1e-5  # added to the variance of a window, which may be constant


class Window(NamedTuple):
    """What was taken out of the windows, (B,) each.

    Attributes:
        shift, scale: standardised = normalised * scale + shift.
        unit: what 1, standardised, is in the units of the file.
    """

    shift: Tensor
    scale: Tensor
    unit: Tensor

    def restore(self, values: Tensor) -> Tensor:
        """Normalised values (B, ...) standardised."""
        return values * _like(self.scale, values) + _like(self.shift, values)

    def remove(self, values: Tensor) -> Tensor:
        """Standardised values (B, ...) normalised."""
        return (values - _like(self.shift, values)) / _like(self.scale, values)

    def repeated(self, times: int) -> "Window":
        """Every row so many times, one after the other."""
        return Window(*(part.repeat_interleave(times, 0) for part in self))


def _like(part: Tensor, values: Tensor) -> Tensor:
    return part.view(-1, *[1] * (values.dim() - 1))


class InstanceNorm:
    """Shift and scale every window by its own values, so that level and spread need not be learned.

    "mean" takes the mean and the standard deviation (Kim et al. 2022, without their affine weights), "last"
    the last value and no scale (Lin et al. 2023), "counts" divides by 1 + mean, in the units of the file
    (Salinas et al. 2020), "off" does nothing.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, batch: Batch) -> tuple[Tensor, Window]:
        """Normalised (B, L), 0 where nothing is filled in, and what undoes it.

        Statistics are those of the observed values.
        """
        values, observed = batch["inputs"], batch["observed"]
        window = self._window(values, observed, batch["deviation"].to(values.dtype))
        if self.kind == "off":
            return values, window
        return window.remove(values) * batch["filled"], window

    def _window(self, values: Tensor, observed: Tensor, unit: Tensor) -> Window:
        zeros, ones = values.new_zeros(len(values)), values.new_ones(len(values))
        if self.kind == "off":
            return Window(zeros, ones, unit)
        if self.kind == "last":
            return Window(values[:, -1], ones, unit)
        count = observed.sum(1).clamp(min=1)
        mean = (values * observed).sum(1) / count
        if self.kind == "counts":
            return Window(zeros, mean + 1 / unit, unit)
        variance = ((values - mean[:, None]).square() * observed).sum(1) / count
        return Window(mean, (variance + _SMALLEST).sqrt(), unit)
