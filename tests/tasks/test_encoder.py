"""From recurrent options to layers."""

from typing import Any

import pytest
import torch

from penstock import nn
from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent
from penstock.training.config import RecurrentOptions


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, nn.LSTM),
        ({"peephole": True, "layers": 2}, nn.LSTM),
        ({"projection_size": 3, "bidirectional": False}, nn.LSTM),
        ({"cell": "gru", "layers": 3}, nn.GRU),
        ({"cell": "gru", "reset_after": False}, nn.GRU),
        ({"cell": "rnn", "nonlinearity": "relu", "bidirectional": False}, nn.RNN),
    ],
)
def test_the_layer_is_the_one_described(options: dict[str, Any], kind: type) -> None:
    chosen = RecurrentOptions(hidden_size=5, **options)
    layer = recurrent(chosen, 4)
    assert type(layer) is kind
    assert (layer.num_layers, layer.bidirectional) == (chosen.layers, chosen.bidirectional)
    assert layer.dropout == (chosen.dropout if chosen.layers > 1 else 0)
    if isinstance(layer, nn.LSTM):
        assert layer.peephole == chosen.peephole
    if isinstance(layer, nn.GRU):
        assert layer.reset_after == chosen.reset_after
    if isinstance(layer, nn.RNN):
        assert layer.nonlinearity == chosen.nonlinearity
    outputs, _ = layer(torch.randn(2, 6, 4), lengths=[6, 3])
    assert outputs.shape == (2, 6, output_size(chosen))
    assert (outputs[1, 3:] == 0).all()


@pytest.mark.parametrize(
    "options", [{}, {"peephole": True, "layers": 2}, {"projection_size": 3}, {"cell": "gru"}, {"cell": "rnn"}]
)
def test_recurrent_matrices_start_orthogonal_and_biases_at_zero(options: dict[str, Any]) -> None:
    layer = recurrent(RecurrentOptions(hidden_size=5, **options), 4)
    initialize_recurrent(layer)
    for name, weight in layer.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.detach().split(5):
                columns = gate.T @ gate
                torch.testing.assert_close(columns, torch.eye(len(columns)), atol=1e-5, rtol=0)
        elif name.startswith("bias"):
            ones = 5 if layer.mode == "LSTM" and name.startswith("bias_ih") else 0
            assert float(weight.detach().abs().sum()) == ones
