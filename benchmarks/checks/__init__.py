"""What is measured, one check a file. A check says which figures it gives, and makes `Case`s for a grid."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.figures import Line
from benchmarks.grid import Kind, Shape


@dataclass(frozen=True)
class Settings:
    """What the command line asks for."""

    figures: frozenset[str]
    """Names in `benchmarks.figures.FIGURES`."""
    grid: str
    """"short" or "full"."""
    shapes: tuple[Shape, ...]
    kinds: tuple[Kind, ...]
    threads: tuple[int, ...]
    peers: tuple[str, ...]
    """Names in `benchmarks.peers.PEERS`, all of them installed."""
    seconds: float
    """To spend on each time."""

    @property
    def is_full(self) -> bool:
        return self.grid == "full"

    def wants(self, *figures: str) -> bool:
        """Whether one of these figures is asked for."""
        return not self.figures.isdisjoint(figures)


@dataclass(frozen=True)
class Case:
    """A piece of work that gives lines; `key` is its name in the JSON file, for resuming."""

    key: str
    measure: Callable[[], list[Line]]


class Check(Protocol):
    """What the module of a check offers."""

    @property
    def FIGURES(self) -> tuple[str, ...]:
        """The figures it gives."""
        ...

    def cases(self, settings: Settings) -> Iterable[Case]:
        """The work for the figures that are asked for, in order."""
        ...

    def unavailable(self) -> dict[str, str]:
        """The figures that cannot be measured yet or here, each with the reason."""
        ...
