"""Every output of an operator is NaN before the kernel runs, in every test of the operators."""

from collections.abc import Iterator

import pytest

from penstock import _native


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    _native.poison(True)
    yield
    _native.poison(False)


@pytest.fixture(params=_native.instruction_sets())
def instruction_set(request: pytest.FixtureRequest):
    """Each instruction set of this machine in turn."""
    before = _native.instruction_set()
    _native.set_instruction_set(request.param)
    yield request.param
    _native.set_instruction_set(before)
