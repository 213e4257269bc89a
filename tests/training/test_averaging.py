"""Averages of weights, and when one begins."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from penstock.training.averaging import Average, exponential, from_step, not_monotone


def averages(values: list[float], average: Average) -> list[float]:
    """What an average is after each of some values of a weight."""
    weight = nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(weight, avg_fn=average)
    found = []
    for value in values:
        nn.init.constant_(weight.weight, value)
        averaged.update_parameters(weight)
        found.append(averaged.get_parameter("module.weight").item())
    return found


def test_the_mean_begins_at_a_step() -> None:
    assert averages([1, 2, 6, 7], from_step(lambda: None)) == [1, 2, 6, 7]
    assert averages([1, 2, 6, 7], from_step(lambda: 2)) == pytest.approx([1, 2, 6, 6.5])
    assert averages([1, 2, 6, 7], from_step(lambda: 0)) == pytest.approx([1, 1.5, 3, 4])


def test_the_exponential_average_is_short_at_first() -> None:
    update = exponential(0.5)
    one, two = torch.zeros(()), torch.ones(())

    def weight(updates: int) -> Tensor:
        return update(one, two, torch.tensor(updates))

    assert float(weight(1)) == pytest.approx(1 - 2 / 11)
    assert float(weight(100)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("figures", "interval", "epoch"),
    [
        ([], 1, None),
        ([1, 2, 3, 4], 1, None),
        ([5, 4, 4.5, 3], 1, 2),  # 4.5 is worse than 5, two before it
        ([5, 4, 4.5, 3], 2, 3),
        ([5, 4, 4.5, 3], 3, None),
        ([5, 5, 5, 5, 5], 1, None),  # not worse
        ([1, 5, 3, 6, 4, 2], 2, 4),
    ],
)
def test_when_averaging_begins(figures: list[float], interval: int, epoch: int | None) -> None:
    assert not_monotone(figures, interval) == epoch
