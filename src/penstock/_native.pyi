"""Penstock's kernels: raw arrays in, raw arrays out. Shapes: csrc/kernels.hpp."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Array = Any
"""Any array on the CPU that speaks DLPack: NumPy, torch, JAX."""

def instruction_sets() -> list[str]:
    """The instruction sets this machine can run, best first."""

def instruction_set() -> str:
    """The one in use: "auto", the best for each call, unless one was named."""

def set_instruction_set(name: str) -> None:
    """Use this one, or "auto", from the next call on."""

def bf16_instruction_sets() -> list[str]:
    """Those with products of bfloat16 that this machine can run, best first; often none."""

def set_bf16_instruction_set(name: str) -> None:
    """Use another one of them from the next call on."""

class NumpyLayer:
    """One layer for NumPy arrays, in one direction; `penstock.runtime.Layer` is made of it."""

    def __init__(self, cell: str, weights: Sequence[Array | None], reverse: bool, threads: int) -> None: ...
    def run(
        self, x: Array, h0: Array | None, c0: Array | None, lengths: Array | None
    ) -> tuple[Array, Array, Array | None]: ...

def empty(shape: Sequence[int], dtype: str) -> Array:
    """An uninitialised tensor of torch, its memory kept for the next when it ends."""

def kept_blocks() -> int:
    """Bytes that are kept and nobody uses."""

def free_kept_blocks() -> None:
    """Give them back to the system."""

def reserve_size(cell: str, hidden: int, output: int, is_float64: bool) -> int:
    """Values of x's dtype that forward keeps for backward, for each (step, row) pair."""

class Plain:
    """Calls with nothing between them and the kernels."""

    def __init__(
        self,
        modes: tuple[Callable[[], object], ...],
        forward_ad: ModuleType,
        casts: Callable[[], bool],
        differentiates: Callable[[], bool],
        threads: Callable[[], int],
        types: tuple[type, type],
    ) -> None:
        """modes: of torch, each something that says whether it is on: no call is plain then. casts: whether
        autocast is on. differentiates: whether derivatives are wanted. threads: how many to compute with.
        types: those of plain tensors."""

    def is_in_a_mode(self) -> bool:
        """Whether torch is in one of the modes, or differentiates forward."""

    def all_plain(self, tensors: tuple[Array | None, ...]) -> bool:
        """Whether these are plain tensors of one dtype; False also where that takes a closer look."""

    def run(
        self,
        differentiable: Callable[..., Any],
        cell: str,
        parameters: dict[str, Array | None],
        names: list[list[str]],
        x: Array,
        hx: Any,
        dimensions: int,
        batch_first: bool,
    ) -> tuple[Array | None, Any] | None:
        """One layer over whole sequences, or a single step; None for what is not plain.

        y and the final states, which are as hx: h, or a pair of h and c. Of a step x is (B, D), the states
        are (B, n) and y is None. names: of the weights of each direction, as `layer_forward` takes them, in
        `parameters`. dimensions: that x must have. Where a gradient will be wanted it is the call of
        `differentiable`, a function of autograd whose forward pass is `keep`.
        """

    def keep(
        self,
        context: Any,
        options: tuple[str, int, bool],
        cell_states: bool,
        lengths: Array | None,
        batch_sizes: Array | None,
        x: Array,
        h0: Array | None,
        c0: Array | None,
        *weights: Array,
    ) -> tuple[Array | None, Array, Array | None, Array | None]:
        """A forward pass of autograd, whose context keeps what the backward pass will need.

        options: the cell, the directions and `batch_first`. What it gives and takes: `layer_forward`.
        """

    def gradients(
        self,
        options: tuple[str, int, bool],
        kept: tuple[Array | None, ...],
        d_outputs: tuple[Array | None, ...],
        needs: Sequence[bool],
    ) -> tuple[Array | None, ...] | None:
        """The backward pass, from what `keep` kept: as `layer_backward`; None where somebody looks on."""

def forward(
    *,
    cell: str,
    weights: Sequence[Array | None],
    x: Array,
    h0: Array | None,
    c0: Array | None,
    y: Array,
    h_n: Array,
    c_n: Array | None,
    cell_states: Array | None,
    reserve: Array | None,
    lengths: Array | None,
    batch_sizes: Array | None,
    reverse: bool,
    threads: int,
) -> None:
    """One layer, one direction, into y, h_n, c_n, cell_states and reserve."""

def backward(
    *,
    cell: str,
    weights: Sequence[Array | None],
    x: Array,
    h0: Array | None,
    c0: Array | None,
    reserve: Array,
    d_y: Array | None,
    d_h_n: Array | None,
    d_c_n: Array | None,
    d_cell_states: Array | None,
    d_x: Array | None,
    d_h0: Array | None,
    d_c0: Array | None,
    d_weights: Sequence[Array | None],
    lengths: Array | None,
    batch_sizes: Array | None,
    reverse: bool,
    threads: int,
) -> None:
    """Gradients of one layer, one direction, into d_x, d_h0, d_c0 and d_weights."""

def layer_forward(
    cell: str,
    directions: int,
    weights: tuple[Array, ...],
    x: Array,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    batch_sizes: Array | None,
    batch_first: bool,
    threads: int,
    cell_states: bool,
    keep: bool,
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    """One layer in all its directions: y, h_n, c_n, cell_states and reserve, new tensors of torch.

    With a bfloat16 x all is bfloat16 but the reserve, which is float32; with a float32 x the matrices alone
    may be. Tensors that do not lie as the kernels read them are copied.
    """

def layer_backward(
    cell: str,
    directions: int,
    weights: tuple[Array, ...],
    x: Array,
    h0: Array | None,
    c0: Array | None,
    lengths: Array | None,
    batch_sizes: Array | None,
    batch_first: bool,
    threads: int,
    reserve: Array,
    d_y: Array | None,
    d_h_n: Array | None,
    d_c_n: Array | None,
    d_cell_states: Array | None,
    needs: Sequence[bool],
) -> list[Array | None]:
    """Gradients of one layer in all its directions: of x, h0, c0 and each weight, those that it `needs`."""

def poison(on: bool) -> None:
    """Whether every new tensor is NaN before a kernel runs: for the tests."""

def activation(name: str, x: Array, y: Array) -> None:
    """`sigmoid` or `tanh` of each value of x (n,) as the cells compute it, into y (n,)."""

def measure_peak(seconds: float) -> float:
    """Float32 multiply-adds of one thread with the instruction set in use, in GFLOP/s."""

def measure_product(rows: int, depth: int, columns: int, seconds: float) -> float:
    """The same in a product alone of float32 matrices of these sizes, packed as the layers have them.

    By tiles where that is faster and they may be used. Raises ValueError for a size below 1."""

def measure_gates(cell: str, backwards: bool, seconds: float) -> float:
    """What one thread computes of a cell beside its products, in float32: units a nanosecond."""

def measure_reading(array: Array, seconds: float) -> float:
    """How fast one thread reads an array of float32 again and again, in GB/s.

    1,024 numbers at a time: what is left at its end is not read. Raises ValueError for fewer."""
