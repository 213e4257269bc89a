"""One recurrent layer for inference on NumPy arrays."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from penstock import _native
from penstock.errors import InputError

ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")
CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before")


class Layer:
    """One layer in one direction. Calling it runs whole sequences, or single steps with the state handed on.

    cell: one of rnn_tanh, rnn_relu, lstm, gru, gru_reset_before.
    weights: by the names of penstock.nn's parameters: weight_ih (G*H, D), weight_hh (G*H, R), and where there
        are any bias_ih and bias_hh (G*H), weight_hr (R, H), weight_peephole (3*H); each may end in `_l0`, as
        in a state_dict. float32 or float64, all alike. They are copied where they are not contiguous,
        otherwise later changes to the arrays are seen.
    reverse: from the end of each row to its start.
    threads: how many may be used.

    Raises ValueError for an unknown cell, a missing or unknown weight and wrong shapes, TypeError for wrong
    dtypes.
    """

    def __init__(
        self, cell: str, weights: Mapping[str, NDArray], *, reverse: bool = False, threads: int = 1
    ) -> None:
        if cell not in CELLS:
            raise InputError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        named = {name.removesuffix("_l0"): np.ascontiguousarray(array) for name, array in weights.items()}
        if unknown := named.keys() - set(ROLES):
            raise InputError(f"weights: expected {', '.join(ROLES)}, got {', '.join(sorted(unknown))}")
        if missing := {"weight_ih", "weight_hh"} - named.keys():
            raise InputError(f"weights: expected {' and '.join(sorted(missing))} among them")
        kernel = f"{cell}_peephole" if "weight_peephole" in named else cell
        if kernel not in (*CELLS, "lstm_peephole"):
            raise InputError(f"weight_peephole: expected for the cell lstm only, got {cell}")
        self._layer = _native.NumpyLayer(kernel, [named.get(role) for role in ROLES], reverse, threads)

    def __call__(
        self,
        x: NDArray,
        h0: NDArray | None = None,
        c0: NDArray | None = None,
        *,
        lengths: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray, ...]:
        """Run over sequences.

        x: (T, B, D); h0: (1, B, R) and, for an LSTM, c0: (1, B, H), zeros by default.
        lengths: B integers from 0 to T: outputs beyond are zero, final states are those at a row's length.

        Returns y (T, B, R), h_n (1, B, R) and, for an LSTM, c_n (1, B, H), new arrays.
        """
        y, h_n, c_n = self._layer.run(x, h0, c0, lengths)
        return (y, h_n) if c_n is None else (y, h_n, c_n)
