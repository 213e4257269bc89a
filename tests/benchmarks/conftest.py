"""What the tests of the benchmark share."""

import pytest

from benchmarks import gate
from benchmarks.timing import Timing


@pytest.fixture(autouse=True)
def nothing_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate remembers its verdicts for a process; a test may have broken the layer."""
    monkeypatch.setattr(gate, "_judged", {})


@pytest.fixture
def quotients_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison as the medians that are written down have it, without the rounds, which are not."""
    monkeypatch.setattr(Timing, "over", lambda one, other: one.ms / other.ms)
