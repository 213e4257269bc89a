"""Every output of an operator is NaN before the kernel runs, in every test of the operators."""

import pytest
import torch

import penstock.ops.memory
from penstock import _native


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned_empty(shape, like):
        return torch.full(tuple(shape), torch.nan, dtype=like.dtype, device=like.device)

    monkeypatch.setattr(penstock.ops.memory, "empty", poisoned_empty)


@pytest.fixture(params=_native.instruction_sets())
def instruction_set(request: pytest.FixtureRequest):
    """Each instruction set of this machine in turn."""
    before = _native.instruction_set()
    _native.set_instruction_set(request.param)
    yield request.param
    _native.set_instruction_set(before)
