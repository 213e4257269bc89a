"""`RNNCell`, `LSTMCell` and `GRUCell`: one step of a layer, torch.nn's cells on Penstock's kernels."""

from typing import Any

import torch
from torch import Tensor, nn

from penstock import ops
from penstock.cells import Weights
from penstock.nn.run import run_layer


class _RecurrentCell(nn.RNNCellBase):
    """What the three cells share. Shapes: B batch, D input, H hidden."""

    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def _cell(self) -> str:
        """The name in penstock.cells.CELLS."""
        raise NotImplementedError

    def _is_stock(self) -> bool:
        """Whether torch has this cell."""
        return True

    def _weights(self) -> Weights:
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def _check(self, input: Tensor, state: tuple[Tensor | None, ...]) -> None:
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.shape[-1]}, expected {self.input_size}"
            )
        if input.dtype != self.weight_ih.dtype and not torch._C._is_any_autocast_enabled():
            raise RuntimeError(f"{name}: expected input of dtype {self.weight_ih.dtype}, got {input.dtype}")
        expected = (*input.shape[:-1], self.hidden_size)
        for s in state:
            if s is not None and s.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected hx to be 1D or 2D, got {s.dim()}D instead")
            if s is not None and s.shape != expected:
                raise RuntimeError(f"{name}: expected hx of shape {expected}, got {tuple(s.shape)}")

    def _step(self, input: Tensor, state: tuple[Tensor | None, Tensor | None]) -> tuple[Tensor, Tensor]:
        """(h, c) after one step, c empty for cells without one; batched or not as the input."""
        self._check(input, state)
        batched = input.dim() == 2
        x = input if batched else input[None]
        rows = tuple(None if s is None else s[None] if batched else s[None, None] for s in state)
        _, h, c, _ = run_layer(x[None], rows, [self._weights()], cell=self._cell())  # type: ignore[arg-type]
        h, c = h[0], c[0] if c.numel() else c
        return (h, c) if batched else (h[0], c[0] if c.numel() else c)

    def _goes_torchs_way(self, input: Tensor, *state: Tensor | None) -> bool:
        return self._is_stock() and not ops.is_native([input, *state, *self.parameters()])


class RNNCell(_RecurrentCell, nn.RNNCell):
    """One step of an Elman network; arguments and forward as torch.nn.RNNCell's."""

    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, D) or (D,), hx (B, H) or (H,), zeros by default -> the new h, of hx's shape."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        if self._goes_torchs_way(input, hx):
            return super().forward(input, hx)
        return self._step(input, (hx, None))[0]


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

    def _weights(self) -> Weights:
        weights = super()._weights()
        return weights._replace(weight_peephole=self.weight_peephole) if self.peephole else weights

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        """input (B, D) or (D,), hx a pair (h, c) of (B, H) or (H,), zeros by default -> the new pair."""
        h, c = (None, None) if hx is None else hx
        if self._goes_torchs_way(input, h, c):
            return super().forward(input, hx)
        return self._step(input, (h, c))


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
        if self._goes_torchs_way(input, hx):
            return super().forward(input, hx)
        return self._step(input, (hx, None))[0]
