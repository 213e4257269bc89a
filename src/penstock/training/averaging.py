"""Averages of the weights over the steps of a run, which are then what is evaluated and saved.

Either has the form that `torch.optim.swa_utils.AveragedModel` takes: the next average from the last one, the
current weights, and the number of averages before. The state of a run beside that number is the history of
its epochs, so a resumed run averages as an unbroken one.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Average = Callable[[Tensor, Tensor, Tensor | int], Tensor]


def exponential(decay: float) -> Average:
    """An exponential moving average that is short while there are few steps to average over."""

    def update(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        return average.lerp(current, 1 - min(decay, (1 + int(updates)) / (10 + int(updates))))

    return update


def from_step(first: Callable[[], int | None]) -> Average:
    """The mean of the weights after each step from a certain one on; until then the weights themselves.

    Args:
        first: gives that step, counted from 0; None while it is not known.
    """

    def update(average: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        start = first()
        if start is None or int(updates) < start:
            return current
        return average.lerp(current, 1 / (int(updates) - start + 1))

    return update


def not_monotone(figures: Sequence[float], interval: int) -> int | None:
    """The first epoch, counted from 0, that is worse than one more than `interval` epochs before it.

    The condition under which NT-ASGD begins to average (Merity et al. 2018, Algorithm 1).

    Args:
        figures: of the epochs, the higher the better.
        interval: n of the algorithm, 1 or more.
    """
    later = range(interval + 1, len(figures))
    return next((epoch for epoch in later if figures[epoch] < max(figures[: epoch - interval])), None)
