"""Recurrent layers: drop-in replacements for torch.nn's, on Penstock's kernels, and more than torch's."""

from penstock.nn.cells import GRUCell as GRUCell
from penstock.nn.cells import LSTMCell as LSTMCell
from penstock.nn.cells import RNNCell as RNNCell
from penstock.nn.layers import GRU as GRU
from penstock.nn.layers import LSTM as LSTM
from penstock.nn.layers import RNN as RNN

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]
