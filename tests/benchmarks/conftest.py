"""What the tests of the benchmark share."""

import pytest

from benchmarks import gate


@pytest.fixture(autouse=True)
def nothing_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate remembers its verdicts for a process; a test may have broken the layer."""
    monkeypatch.setattr(gate, "_judged", {})
