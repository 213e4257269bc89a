"""The mathematics of the cells: equations, plain step, and back-propagation through time derived by hand."""

__all__ = ["CELLS", "Cell", "State", "Weights", "unroll"]

from penstock.cells.base import Cell, State, Weights, unroll
from penstock.cells.gru import GRU
from penstock.cells.gru_reset_before import GRU_RESET_BEFORE
from penstock.cells.lstm import LSTM
from penstock.cells.rnn import RNN_RELU, RNN_TANH

CELLS: dict[str, Cell] = {cell.name: cell for cell in (RNN_TANH, RNN_RELU, LSTM, GRU, GRU_RESET_BEFORE)}
