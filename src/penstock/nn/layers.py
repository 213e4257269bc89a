"""`RNN`, `LSTM` and `GRU`: torch.nn's layers on Penstock's kernels.

Each is a subclass of its torch.nn counterpart with the same class name, constructor, parameters and results;
the equations stand in penstock/cells. Tensors the kernels do not take (other devices and dtypes) go torch's
own way for torch's cells, and step by step on the reference for the others.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from penstock import ops
from penstock.nn.autocast import autocast_dtype, cast, without_autocast
from penstock.nn.compiling import allow_tracing
from penstock.nn.run import State, run_stack

Lengths = Tensor | Sequence[int]
LayerWeights = list[tuple[Tensor, ...]]
"""Of each layer: one direction after the other, each in the order of `penstock.cells.Weights`."""


class _Recurrent(nn.RNNBase):
    """What the three layers share. Shapes: T time, B batch, D input, R output, L * directions states."""

    def _cell(self) -> str:
        """The name in penstock.cells.CELLS."""
        raise NotImplementedError

    def _is_stock(self) -> bool:
        """Whether torch has this cell."""
        return True

    def _weights(self) -> LayerWeights:
        # By name, not from torch's _flat_weights: parametrizations and functional_call swap attributes. Those
        # that nobody swapped stand in the dictionary, where they are found in a tenth of the time.
        own = self._parameters
        found: list[Any] = [
            own[name] if name in own else getattr(self, name) for names in self._all_weights for name in names
        ]
        if self.num_layers == 1:
            return [tuple(found)]
        each = len(found) // self.num_layers
        return [tuple(found[first : first + each]) for first in range(0, len(found), each)]

    def forward(  # type: ignore[override]
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Lengths | None = None,
        return_cell_states: bool = False,
    ) -> Any:
        """Run the layers over a sequence.

        input: (T, B, D), (B, T, D) with `batch_first`, unbatched (T, D), or a PackedSequence.
        hx: initial states as torch.nn takes them (for an LSTM a pair); zeros by default.
        lengths: B integers from 0 to T in any order, a list or a tensor on any device. Outputs beyond a
            row's length are zero, its final states are those at its length (a backward direction starts
            there), and what the input holds beyond has no influence.
        return_cell_states: (LSTM) also return the cell state of every step, for each layer
            (T, B, directions * H) laid out like the output; with a PackedSequence the packed rows.

        Returns (output, final states) as torch.nn does, and with `return_cell_states` the list of cell
        states as a third value. Raises as torch.nn does for wrong shapes and dtypes; ValueError for
        `lengths` of a wrong size or out of range, TypeError for `lengths` that are not integers.
        """
        if lengths is None and not return_cell_states and self.num_layers == 1:
            # In the fewest steps: most of a step of a small layer is what stands around the kernels.
            try:
                result = ops.whole(
                    self._cell(), self._parameters, self._all_weights, input, hx, 3, self.batch_first
                )
            except ValueError:  # of the kernels, about a shape: the long way says it in torch's words
                result = None
            if result is not None:
                return result
        if return_cell_states and not isinstance(self, nn.LSTM):
            raise ValueError(f"return_cell_states: expected an LSTM, got {type(self).__name__}, "
                             "which has no cell state")  # fmt: skip
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: expected None with a PackedSequence, which has its own")
            return self._forward_packed(input, hx, return_cell_states)
        if not isinstance(input, Tensor):
            raise TypeError(f"input: expected a Tensor or a PackedSequence, got {type(input).__name__}")
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D tensor instead"
            )
        if input.dim() == 2:
            return self._forward_unbatched(input, hx, lengths, return_cell_states)

        state = self._state(hx, dim=3)
        input, state, weights = self._cast(input, state)
        route = ops.route((input, *state, *itertools.chain(*weights)))
        if route is ops.Route.FOREIGN or not self._fits(input, state):
            self._check(input, state, None)
        rows = None
        if lengths is not None:
            rows = _lengths(
                lengths, *(input.shape[:2] if self.batch_first else (input.shape[1], input.shape[0]))
            )
        if route is ops.Route.FOREIGN and self._is_stock() and not return_cell_states:
            return self._forward_torch(input, state, weights, rows)
        y, h_n, c_n, c_steps = run_stack(
            route, input, state, weights, self._layer(self.batch_first), self._dropout(), rows, None,
            return_cell_states,
        )  # fmt: skip
        result = (y, self._final(h_n, c_n))
        return (*result, c_steps) if return_cell_states else result

    def _forward_unbatched(self, input: Tensor, hx, lengths: Lengths | None, return_cell_states: bool):
        state = tuple(None if s is None else s.unsqueeze(1) for s in self._state(hx, dim=2))
        result = self.forward(
            input.unsqueeze(0 if self.batch_first else 1),
            None if state[0] is None else self._final(*state),
            lengths=lengths,
            return_cell_states=return_cell_states,
        )
        dim = 0 if self.batch_first else 1
        finals = tuple(None if s is None else s.squeeze(1) for s in self._state(result[1], dim=3))
        unbatched = (result[0].squeeze(dim), self._final(*finals))
        return (*unbatched, [c.squeeze(dim) for c in result[2]]) if return_cell_states else unbatched

    def _forward_packed(self, input: PackedSequence, hx, return_cell_states: bool):
        data, batch_sizes, sorted_indices, unsorted_indices = input
        data, (h0, c0), weights = self._cast(data, self._state(hx, dim=3))
        state = (_reorder(h0, sorted_indices), _reorder(c0, sorted_indices))
        self._check(data, state, batch_sizes)
        c_steps: list[Tensor] = []
        route = ops.route((data, *state, *itertools.chain(*weights)))
        if route is ops.Route.FOREIGN and self._is_stock() and not return_cell_states:
            y, h_n, c_n = self._run_torch(data, state, weights, batch_sizes)
        else:
            y, h_n, c_n, c_steps = run_stack(
                route, data, state, weights, self._layer(False), self._dropout(), None, batch_sizes,
                return_cell_states,
            )  # fmt: skip

        def packed(rows: Tensor) -> PackedSequence:
            return PackedSequence(rows, batch_sizes, sorted_indices, unsorted_indices)

        final = self._final(_reorder(h_n, unsorted_indices), _reorder(c_n, unsorted_indices))
        result = (packed(y), final)
        return (*result, [packed(c) for c in c_steps]) if return_cell_states else result

    def _forward_torch(self, input: Tensor, state: State, weights: LayerWeights, lengths: Tensor | None):
        """torch's own path. It has no rows without steps: those run one step, which is then taken back."""
        if lengths is None:
            y, *final = self._run_torch(input, state, weights, None)
            return y, self._final(*final)
        steps = input.shape[1 if self.batch_first else 0]
        data, batch_sizes, order, back = pack_padded_sequence(
            input, lengths.clamp(min=1), self.batch_first, enforce_sorted=False
        )
        sorted_state = (_reorder(state[0], order), _reorder(state[1], order))
        y, *final = self._run_torch(data, sorted_state, weights, batch_sizes)
        y, _ = pad_packed_sequence(
            PackedSequence(y, batch_sizes, order, back), self.batch_first, total_length=steps
        )
        empty = (lengths == 0).to(y.device)
        y = y.masked_fill(empty[:, None, None] if self.batch_first else empty[:, None], 0)
        finals = (
            None if f is None else _reorder(f, back).where(~empty[:, None], 0 if s is None else s)  # type: ignore[union-attr]
            for f, s in zip(final, state, strict=True)
        )
        return y, self._final(*finals)

    def _run_torch(self, x: Tensor, state: State, weights: LayerWeights, batch_sizes: Tensor | None):
        """y, h_n and c_n (None for cells without a cell state) from the function that torch.nn calls."""
        batch = x.shape[0 if self.batch_first else 1] if batch_sizes is None else int(batch_sizes[0])
        rows = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        h0, c0 = (
            x.new_zeros(rows, batch, size) if s is None else s for s, size in zip(state, sizes, strict=True)
        )
        hx = [h0, c0] if self.mode == "LSTM" else h0
        flat = [w for layer in weights for w in layer]
        options = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        function = getattr(torch._VF, self.mode.lower())
        with without_autocast(x):
            if batch_sizes is None:
                y, h_n, *c_n = function(x, hx, flat, *options, self.batch_first)
            else:
                y, h_n, *c_n = function(x, batch_sizes, hx, flat, *options)
        return y, h_n, c_n[0] if c_n else None

    def _layer(self, batch_first: bool) -> ops.Options:
        return ops.Options(self._cell(), 2 if self.bidirectional else 1, batch_first)

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0

    def _cast(self, x: Tensor, state: State) -> tuple[Tensor, State, LayerWeights]:
        """What a call computes with: all of it in the dtype of autocast, where that is on."""
        weights = self._weights()
        dtype = autocast_dtype(x) if torch.is_autocast_enabled("cpu") else None
        if dtype is None:
            return x, state, weights
        return cast(x, dtype), cast(state, dtype), cast(weights, dtype)

    def _state(self, hx, dim: int) -> State:
        """hx as (h, c); torch's errors for a wrong kind."""
        if hx is None:
            return None, None
        if hx.dim() != dim:
            kind = "unbatched 2-D" if dim == 2 else "batched 3-D"
            raise RuntimeError(f"For {kind} input, hx should also be {dim}-D but got {hx.dim()}-D tensor")
        return hx, None

    def _final(self, h: Tensor | None, c: Tensor | None) -> Any:
        """(h, c) as the caller gives and gets it."""
        return h

    def _fits(self, x: Tensor, state: State) -> bool:
        """Whether the shapes of a batched call are right. If not, `_check` says what is wrong."""
        shape = x.shape
        batch = shape[0 if self.batch_first else 1]
        if shape[2] != self.input_size or not shape[1 if self.batch_first else 0]:
            return False
        rows = self.num_layers * (2 if self.bidirectional else 1)
        h, c = state
        return (h is None or h.shape == (rows, batch, self.proj_size or self.hidden_size)) and (
            c is None or c.shape == (rows, batch, self.hidden_size)
        )

    def _check(self, input: Tensor, state: State, batch_sizes: Tensor | None) -> None:
        if not (input.is_floating_point() or input.is_complex()):
            raise ValueError(f"input: expected a floating point tensor, got {input.dtype}")
        if not torch.compiler.is_compiling():  # an exported program must not assign attributes
            self._update_flat_weights()
        self.check_input(input, batch_sizes)
        time = 1 if self.batch_first and batch_sizes is None else 0
        if input.shape[time] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        self._check_states(input, state, batch_sizes)
        weight = self.weight_ih_l0
        mixed = torch._C._is_any_autocast_enabled()
        for name, s in zip(("hx", "cx"), state, strict=True):
            if s is not None and ((s.dtype != input.dtype and not mixed) or s.device != input.device):
                raise ValueError(
                    f"{name}: expected {input.dtype} on {input.device} as input, got {s.dtype} on {s.device}"
                )
        if input.device != weight.device:
            raise RuntimeError(
                "Input and parameter tensors are not at the same device, found input tensor at "
                f"{input.device} and parameter tensor at {weight.device}"
            )

    def _check_states(self, input: Tensor, state: State, batch_sizes: Tensor | None) -> None:
        h = state[0]
        if h is not None:
            self.check_hidden_size(h, self.get_expected_hidden_size(input, batch_sizes))


def _lengths(lengths: Lengths, batch: int, steps: int) -> Tensor:
    """As an int64 vector on the CPU. That the values are within range is checked where they are used."""
    values = torch.as_tensor(lengths)
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        if values.numel():  # torch makes an empty list a float tensor
            raise TypeError(f"lengths: expected integers, got {values.dtype}")
        values = values.long()
    if values.shape != (batch,):
        raise ValueError(f"lengths: expected shape ({batch},), got {tuple(values.shape)}")
    values = values.to("cpu", torch.int64).contiguous()
    if torch.compiler.is_compiling() or not batch:
        return values
    least, most = map(int, values.aminmax())
    if not 0 <= least <= most <= steps:
        raise ValueError(
            f"lengths: expected values from 0 to the time dimension {steps}, "
            f"got values from {least} to {most}"
        )
    return values


def _reorder(state: Tensor | None, order: Tensor | None) -> Tensor | None:
    """Rows (dimension 1) in another order."""
    return state if state is None or order is None or state.dim() < 2 else state.index_select(1, order)


class RNN(_Recurrent, nn.RNN):
    """Elman network; arguments as torch.nn.RNN's, forward as described at `_Recurrent.forward`.

    Equations: penstock/cells/rnn.py.
    """

    def _cell(self) -> str:
        return "rnn_relu" if self.nonlinearity == "relu" else "rnn_tanh"


class LSTM(_Recurrent, nn.LSTM):
    """Long short-term memory; arguments as torch.nn.LSTM's, and `peephole`.

    peephole: the gates also see the cell state, through diagonal weights `weight_peephole_l{k}` (and
        `..._reverse`) of shape (3 * hidden_size,), in the order input, forget, output; input and forget gate
        see the previous cell state, the output gate the new one (Gers & Schmidhuber 2000). Default: False.

    Equations: penstock/cells/lstm.py.
    """

    peephole: bool = False  # of a module that was torch's and never saw our constructor

    def __init__(self, *args, peephole: bool = False, **kwargs) -> None:
        if not isinstance(peephole, bool):
            raise TypeError(f"peephole should be of type bool, got: {type(peephole).__name__}")
        super().__init__(*args, **kwargs)
        self.peephole = peephole
        if peephole:
            self._add_peepholes()

    def _add_peepholes(self) -> None:
        bound = self.hidden_size**-0.5
        for names in self._all_weights:
            name = names[0].replace("weight_ih", "weight_peephole")
            weight = self.get_parameter(names[0]).detach().new_empty(3 * self.hidden_size)
            setattr(self, name, nn.Parameter(weight.uniform_(-bound, bound)))
            names.append(name)

    def _cell(self) -> str:
        return "lstm"

    def _is_stock(self) -> bool:
        return not self.peephole

    def _state(self, hx, dim: int) -> State:
        if hx is None:
            return None, None
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise RuntimeError(f"LSTM: expected hx to be a pair (h_0, c_0), got {type(hx).__name__}")
        if hx[0].dim() != dim or hx[1].dim() != dim:
            kind = "batched 3-D" if dim == 3 else "unbatched 2-D"
            raise RuntimeError(
                f"For {kind} input, hx and cx should also be {dim}-D but got "
                f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        return hx[0], hx[1]

    def _final(self, h: Tensor | None, c: Tensor | None) -> Any:
        return h, c

    def _check_states(self, input: Tensor, state: State, batch_sizes: Tensor | None) -> None:
        h, c = state
        if h is None or c is None:
            return
        self.check_hidden_size(
            h, self.get_expected_hidden_size(input, batch_sizes), "Expected hidden[0] size {}, got {}"
        )
        self.check_hidden_size(
            c, self.get_expected_cell_size(input, batch_sizes), "Expected hidden[1] size {}, got {}"
        )

    def extra_repr(self) -> str:
        return super().extra_repr() + (", peephole=True" if self.peephole else "")


class GRU(_Recurrent, nn.GRU):
    """Gated recurrent unit; arguments as torch.nn.GRU's, and `reset_after`.

    reset_after: the reset gate is applied after the recurrent product, as in torch and cuDNN; False applies
        it before, to the state itself, as Cho et al. (2014). The parameters are the same. Default: True.

    Equations: penstock/cells/gru.py and penstock/cells/gru_reset_before.py.
    """

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

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")


allow_tracing(_Recurrent)
