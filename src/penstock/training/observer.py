"""Who looks on while a model trains: where progress is shown, what hears of each epoch, what is measured."""

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(epoch: int, monitor: str, figure: float) -> None:
    """Go on."""


@dataclass(frozen=True)
class Observer:
    """What a program that trains models may want otherwise than `penstock train`.

    Attributes:
        quiet: show nothing on standard output.
        test: measure the finished model on the test data, if there are any.
        epoch_ended: called in the first process after every epoch, when its checkpoint has been written, with
            its number (from 1), and name (`Job.monitor`) and value of the dev figure that decides which epoch
            is best. What it raises ends the run, which can be resumed from there.
    """

    quiet: bool = False
    test: bool = True
    epoch_ended: Callable[[int, str, float], None] = _nothing
