"""`RNNCell`, `LSTMCell` and `GRUCell`: one step of a layer, torch.nn's cells on Penstock's kernels."""

from typing import Any

import torch
from torch import Tensor, nn

from penstock import ops
from penstock.nn.autocast import autocast_dtype, cast, without_autocast
from penstock.nn.run import State

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_peephole")
OWN_NAMES = {
    (bias, peephole): [[*NAMES[: 4 if bias else 2], *NAMES[4:][:peephole]]]
    for bias in (False, True)
    for peephole in (False, True)
}
"""Of a cell with or without biases and peepholes, as `ops.whole` wants them."""


class _RecurrentCell(nn.RNNCellBase):
    """What the three cells share. Shapes: B batch, D input, H hidden."""

    peephole = False

    def _cell(self) -> str:
        """The name in penstock.cells.CELLS."""
        raise NotImplementedError

    def _is_stock(self) -> bool:
        """Whether torch has this cell."""
        return True

    def _weights(self) -> tuple[Tensor, ...]:
        """Those that exist, in the order of `penstock.cells.Weights`."""
        own = self._parameters  # see _Recurrent._weights in layers.py
        names = NAMES if self.peephole else NAMES[:4]
        found = [own[name] if name in own else getattr(self, name) for name in names]
        return tuple(w for w in found if w is not None)

    def _check(self, input: Tensor, state: State, weight_ih: Tensor) -> None:
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        shape = input.shape
        if shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {shape[-1]}, expected {self.input_size}"
            )
        if input.dtype != weight_ih.dtype and not torch._C._is_any_autocast_enabled():
            raise RuntimeError(f"{name}: expected input of dtype {weight_ih.dtype}, got {input.dtype}")
        expected = (*shape[:-1], self.hidden_size)
        for s in state:
            if s is not None and s.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hx to be 1D or 2D, got {s.dim()}D instead")
            if s is not None and s.shape != expected:
                raise RuntimeError(f"{name}: expected hx of shape {expected}, got {tuple(s.shape)}")

    def _step(self, input: Tensor, hx: Any) -> Any:
        """The new states, as hx has them; batched or not as the input."""
        names = OWN_NAMES[self.bias, self.peephole]
        try:  # in the fewest steps, as a layer: see _Recurrent.forward in layers.py
            found = ops.whole(self._cell(), self._parameters, names, input, hx, 2, False)
        except ValueError:
            found = None
        return self._any_step(input, hx) if found is None else found[1]

    def _any_step(self, input: Tensor, hx: Any) -> Any:
        state, weights, dtype = self._state(hx), self._weights(), autocast_dtype(input)
        if dtype is not None:
            input, state, weights = cast(input, dtype), cast(state, dtype), cast(weights, dtype)
        self._check(input, state, weights[0])
        if input.dim() == 2:
            return self._final(*self._batched_step(input, state, weights))
        h, c = self._batched_step(input[None], (_row(state[0]), _row(state[1])), weights)
        return self._final(h[0], None if c is None else c[0])

    def _state(self, hx: Any) -> State:
        """hx as (h, c)."""
        return hx, None

    def _final(self, h: Tensor, c: Tensor | None) -> Any:
        """(h, c) as the caller gives and gets it."""
        return h

    def _batched_step(
        self, x: Tensor, state: State, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor | None]:
        route = ops.route((x, *state, *weights))
        if route is ops.Route.FOREIGN and self._is_stock():
            return self._torch_step(x, state, weights)
        h0, c0 = _row(state[0]), _row(state[1])
        options = ops.Options(self._cell(), 1, False)
        _, h, c, _ = ops.run(route, x[None], h0, c0, weights, None, None, options)
        return h[0], c[0] if c.numel() else None

    def _torch_step(
        self, x: Tensor, state: State, weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor | None]:
        """From the function that torch.nn calls."""
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros if s is None else s for s in state)
        with without_autocast(x):
            if self._cell() == "lstm":
                return torch._VF.lstm_cell(x, (h, c), *weights)
            return getattr(torch._VF, f"{self._cell()}_cell")(x, h, *weights), None


def _row(t: Tensor | None) -> Tensor | None:
    return None if t is None else t[None]


class RNNCell(_RecurrentCell, nn.RNNCell):
    """One step of an Elman network; arguments and forward as torch.nn.RNNCell's."""

    def _cell(self) -> str:
        return "rnn_relu" if self.nonlinearity == "relu" else "rnn_tanh"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, D) or (D,), hx (B, H) or (H,), zeros by default -> the new h, of hx's shape."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(input, hx)


class LSTMCell(_RecurrentCell, nn.LSTMCell):
    """One step of an LSTM; arguments as torch.nn.LSTMCell's, and `peephole`.

    peephole: as in `penstock.nn.LSTM`, with the weights `weight_peephole`, (3 * hidden_size,).
    """

    peephole: bool = False  # of a module that was torch's and never saw our constructor

    def __init__(self, *args, peephole: bool = False, **kwargs) -> None:
        if not isinstance(peephole, bool):
            raise TypeError(f"peephole should be of type bool, got: {type(peephole).__name__}")
        super().__init__(*args, **kwargs)
        self.peephole = peephole
        if peephole:
            bound = self.hidden_size**-0.5
            weight = self.weight_ih.new_empty(3 * self.hidden_size).uniform_(-bound, bound)
            self.weight_peephole = nn.Parameter(weight.detach())

    def _cell(self) -> str:
        return "lstm"

    def _is_stock(self) -> bool:
        return not self.peephole

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """input (B, D) or (D,), hx a pair (h, c) of (B, H) or (H,), zeros by default -> the new pair."""
        return self._step(input, hx)

    def _state(self, hx: Any) -> State:
        h, c = (None, None) if hx is None else hx
        return h, c

    def _final(self, h: Tensor, c: Tensor | None) -> Any:
        return h, c


class GRUCell(_RecurrentCell, nn.GRUCell):
    """One step of a GRU; arguments as torch.nn.GRUCell's, and `reset_after` as in `penstock.nn.GRU`."""

    reset_after: bool = True  # of a module that was torch's and never saw our constructor

    def __init__(self, *args, reset_after: bool = True, **kwargs) -> None:
        if not isinstance(reset_after, bool):
            raise TypeError(f"reset_after should be of type bool, got: {type(reset_after).__name__}")
        super().__init__(*args, **kwargs)
        self.reset_after = reset_after

    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def _is_stock(self) -> bool:
        return self.reset_after

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, D) or (D,), hx (B, H) or (H,), zeros by default -> the new h, of hx's shape."""
        return self._step(input, hx)
