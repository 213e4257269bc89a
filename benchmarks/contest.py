"""`Contest`: one cell in one shape, ours and torch.nn's, with everything random that goes through them."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import penstock.nn
from benchmarks.grid import Kind, Shape
from penstock.cells import CELLS, Weights, unroll

State = tuple[Tensor, ...]
Call = Callable[[Any, Tensor, State, Tensor | None], tuple[Tensor, State]]
"""(layer, x (T, B, D), hx, lengths or None) to (y, final state), each state (L * directions, B, size)."""
Run = Callable[[], Any]
"""One call of something to be timed."""

PIECE = 1000
"""Steps that `call_in_pieces` differentiates at a time."""


def call_ours(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    y, state_n = layer(x, _as_torch(hx), lengths=lengths)
    return y, _as_tuple(state_n)


def call_torch(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    if lengths is None:
        y, state_n = layer(x, _as_torch(hx))
        return y, _as_tuple(state_n)
    packed, state_n = layer(pack_padded_sequence(x, lengths, enforce_sorted=False), _as_torch(hx))
    return pad_packed_sequence(packed, total_length=len(x))[0], _as_tuple(state_n)


def call_in_pieces(layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """As `call_torch` for one direction, keeping for the backward pass one piece at a time in memory."""
    assert lengths is None
    ys = []
    for piece in x.split(PIECE):
        y, hx = checkpoint(call_torch, layer, piece, hx, None, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
        ys.append(y)
    return torch.cat(ys), hx


def call_plain(cell: str, layer: Any, x: Tensor, hx: State, lengths: Tensor | None) -> tuple[Tensor, State]:
    """The cell's plain step in a loop, with the parameters of one of our layers."""
    directions = ["", "_reverse"] if layer.bidirectional else [""]
    finals = []
    for l in range(layer.num_layers):
        outputs = []
        for suffix in directions:
            state = tuple(h[len(finals)] for h in hx)
            named = {name: getattr(layer, f"{name}_l{l}{suffix}", None) for name in Weights._fields}
            weights = Weights(**named)  # pyright: ignore[reportArgumentType]
            y, state_n, _ = unroll(CELLS[cell], x, state, weights, lengths, reverse=bool(suffix))
            outputs.append(y)
            finals.append(state_n)
        x = torch.cat(outputs, dim=-1)
    return x, tuple(torch.stack(states) for states in zip(*finals, strict=True))


def _as_torch(hx: State) -> Tensor | State:
    (h, *others) = hx
    return hx if others else h


def _as_tuple(state: Tensor | State) -> State:
    return state if isinstance(state, tuple) else (state,)


class Contest:
    """Our layer, torch's, and what goes through them: input, initial state, lengths, gradients.

    `ours` and `theirs` have the same weights where torch has the cell. Everything follows from the seed.
    """

    def __init__(self, kind: Kind, shape: Shape, seed: int = 0) -> None:
        torch.manual_seed(seed)
        T, B, D, H = shape.T, shape.B, shape.D, shape.H
        sizes: dict[str, Any] = {"num_layers": shape.L, "bidirectional": shape.bidirectional}
        sizes |= {"proj_size": shape.proj} if shape.proj else {}
        self.kind, self.shape = kind, shape
        self.ours: Any = getattr(penstock.nn, kind.layer)(D, H, **sizes, **kind.options)
        self.theirs: Any = getattr(torch.nn, kind.layer)(D, H, **sizes)
        if kind.is_stock:
            self.theirs.load_state_dict(self.ours.state_dict())
        self.x = torch.randn(B, D, T).permute(2, 0, 1) if shape.strided else torch.randn(T, B, D)
        self.lengths = torch.randint(max(1, T // 4), T + 1, (B,)) if shape.ragged else None

        widths = {"h": shape.proj or H, "c": H}
        states = [(shape.L * shape.directions, B, widths[s]) for s in CELLS[kind.cell].state]
        self.hx = tuple(torch.randn(size) for size in states)
        self.zeros = tuple(torch.zeros(size) for size in states)
        self.grad_y = torch.randn(T, B, shape.directions * widths["h"])
        self.grad_state = tuple(torch.randn_like(h) for h in self.hx)
        self._results: dict[torch.dtype, dict[str, Tensor]] = {}
        self._steps = (torch.randperm(T - T // 2) + T // 2 + 1).tolist() if shape.new_length else [T]

    @property
    def lengths_in_turn(self) -> int:
        """After how many calls `inputs` begins again."""
        return len(self._steps)

    @property
    def pairs(self) -> float:
        """Of a row and a step that it has; of a new length in every call the mean."""
        if self.lengths is not None:
            return float(self.lengths.sum())
        return self.shape.B * sum(self._steps) / len(self._steps)

    @property
    def exact(self) -> dict[str, Tensor]:
        """The results in float64."""
        return self.plain(torch.float64)

    def plain(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The results of plain torch in `dtype`, computed once."""
        if dtype not in self._results:
            self._results[dtype] = self._plain(dtype)
        return self._results[dtype]

    def _plain(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Of torch's own layer where it has the cell, otherwise the plain steps."""
        if not self.kind.is_stock:
            call, layer = lambda *inputs: call_plain(self.kind.cell, *inputs), self.ours
        elif dtype == torch.float64 and self.shape.T > 10 * PIECE:  # in float32 pieces would lose less
            call, layer = call_in_pieces, self.theirs
        else:
            call, layer = call_torch, self.theirs
        return self.results(call, layer, dtype)

    def results(self, call: Call, layer: Any, dtype: torch.dtype) -> dict[str, Tensor]:
        """Outputs and all gradients by name, computed in `dtype` from a random initial state."""
        layer = copy.deepcopy(layer).to(dtype)
        x = self.x.detach().to(dtype).requires_grad_()
        hx = tuple(h.detach().to(dtype).requires_grad_() for h in self.hx)
        y, state_n = call(layer, x, hx, self.lengths)
        inputs = {"x": x} | {f"state {k}": h for k, h in enumerate(hx)} | dict(layer.named_parameters())
        grads = [g.to(dtype) for g in (self.grad_y, *self.grad_state)]
        gradients = torch.autograd.grad([y, *state_n], list(inputs.values()), grads)
        return named_results(
            y.detach(), [h.detach() for h in state_n], dict(zip(inputs, gradients, strict=True))
        )

    def forward(self, call: Call, layer: Any) -> Run:
        """A forward pass without gradients."""
        dtype = layer.weight_ih_l0.dtype
        xs = self.inputs(dtype)
        zeros = tuple(h.to(dtype) for h in self.zeros)

        def run() -> object:
            with torch.set_grad_enabled(False):  # as a decorator no_grad takes longer than a small layer
                return call(layer, next(xs), zeros, self.lengths)

        return run

    def training(self, call: Call, layer: Any) -> Run:
        """Forward and backward, with the gradients of the input and of every weight."""
        dtype = layer.weight_ih_l0.dtype
        xs = self.inputs(dtype, requires_grad=True)
        zeros = tuple(h.to(dtype) for h in self.zeros)
        grad_y, weights = self.grad_y.to(dtype), list(layer.parameters())

        def run() -> object:
            x = next(xs)
            y, _ = call(layer, x, zeros, self.lengths)
            return torch.autograd.grad(y, [x, *weights], grad_y[: len(x)])

        return run

    def inputs(self, dtype: torch.dtype = torch.float32, requires_grad: bool = False) -> Iterator[Tensor]:
        """x again and again, or its beginnings in a random order, the same for every contestant."""
        x = self.x.to(dtype)
        return itertools.cycle([x[:T].detach().requires_grad_(requires_grad) for T in self._steps])


def named_results(y: Tensor, state_n: list[Tensor], gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results of a layer under the names every contestant uses: y, state 0, grad x, grad weight_ih_l0, ..."""
    outputs = {"y": y} | {f"state {k}": h for k, h in enumerate(state_n)}
    return outputs | {f"grad {name}": g for name, g in gradients.items()}
