"""
Penstock's kernels: raw arrays in, raw arrays out. Shapes: csrc/kernels.hpp.
"""

from collections.abc import Sequence
from typing import Annotated

from numpy.typing import NDArray


def instruction_sets() -> list[str]:
    """The instruction sets this machine can run, best first."""

def instruction_set() -> str:
    """The one in use."""

def set_instruction_set(name: str) -> None:
    """Use another one from the next call on."""

def reserve_size(cell: str, rows: int, hidden: int, output: int, is_float64: bool) -> int:
    """
    Values of x's dtype that forward keeps for backward, for `rows` (step, row) pairs.
    """

def forward(*, cell: str, weights: Sequence[Annotated[NDArray, dict(device='cpu', writable=False)] | None], x: Annotated[NDArray, dict(device='cpu', writable=False)], h0: Annotated[NDArray, dict(device='cpu', writable=False)] | None, c0: Annotated[NDArray, dict(device='cpu', writable=False)] | None, y: Annotated[NDArray, dict(device='cpu')] | None, h_n: Annotated[NDArray, dict(device='cpu')] | None, c_n: Annotated[NDArray, dict(device='cpu')] | None, cell_states: Annotated[NDArray, dict(device='cpu')] | None, reserve: Annotated[NDArray, dict(device='cpu')] | None, lengths: Annotated[NDArray, dict(device='cpu', writable=False)] | None, batch_sizes: Annotated[NDArray, dict(device='cpu', writable=False)] | None, reverse: bool, threads: int) -> None:
    """One layer, one direction, into y, h_n, c_n, cell_states and reserve."""

def backward(*, cell: str, weights: Sequence[Annotated[NDArray, dict(device='cpu', writable=False)] | None], x: Annotated[NDArray, dict(device='cpu', writable=False)], h0: Annotated[NDArray, dict(device='cpu', writable=False)] | None, c0: Annotated[NDArray, dict(device='cpu', writable=False)] | None, reserve: Annotated[NDArray, dict(device='cpu', writable=False)], d_y: Annotated[NDArray, dict(device='cpu', writable=False)] | None, d_h_n: Annotated[NDArray, dict(device='cpu', writable=False)] | None, d_c_n: Annotated[NDArray, dict(device='cpu', writable=False)] | None, d_cell_states: Annotated[NDArray, dict(device='cpu', writable=False)] | None, d_x: Annotated[NDArray, dict(device='cpu')] | None, d_h0: Annotated[NDArray, dict(device='cpu')] | None, d_c0: Annotated[NDArray, dict(device='cpu')] | None, d_weights: Sequence[Annotated[NDArray, dict(device='cpu')] | None], lengths: Annotated[NDArray, dict(device='cpu', writable=False)] | None, batch_sizes: Annotated[NDArray, dict(device='cpu', writable=False)] | None, reverse: bool, threads: int) -> None:
    """
    Gradients of one layer, one direction, into d_x, d_h0, d_c0 and d_weights.
    """
