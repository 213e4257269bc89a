"""From the recurrent options of a configuration to the layer they describe."""

from torch import nn

from penstock.nn import GRU, LSTM, RNN
from penstock.training.config import RecurrentOptions
from penstock.training.groups import layer_groups


def recurrent(options: RecurrentOptions, input_size: int) -> RNN | LSTM | GRU:
    """The stacked recurrent layer, batch first, that `options` describe.

    Args:
        options: cell, layers, hidden size, directions, dropout between layers, and what the cell has besides.
        input_size: D, the features of a step.

    Returns:
        a layer that is called as `layer(x, lengths=lengths)` with x (B, T, D) and returns outputs
        (B, T, `output_size(options)`), zero beyond a length, and the final states.
    """
    shared = {
        "num_layers": options.layers,
        "batch_first": True,
        "dropout": options.dropout if options.layers > 1 else 0.0,
        "bidirectional": options.bidirectional,
    }
    if options.cell == "lstm":
        return LSTM(
            input_size,
            options.hidden_size,
            proj_size=options.projection_size,
            peephole=options.peephole,
            **shared,
        )
    if options.cell == "gru":
        return GRU(input_size, options.hidden_size, reset_after=options.reset_after, **shared)
    return RNN(input_size, options.hidden_size, nonlinearity=options.nonlinearity, **shared)


def output_size(options: RecurrentOptions) -> int:
    """Features of an output step of `recurrent(options, ...)`, both directions together."""
    return (options.projection_size or options.hidden_size) * (2 if options.bidirectional else 1)


def initialize_recurrent(layer: nn.RNNBase) -> None:
    """Start the recurrence well: orthogonal recurrent weights, and forget gates that remember.

    Recurrent matrices become orthogonal gate by gate (Saxe et al. 2014), the forget gate of an LSTM starts
    with a bias of one (Jozefowicz et al. 2015), and input matrices are Glorot-uniform.
    """
    hidden = layer.hidden_size
    for name, weight in layer.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.data.split(hidden):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in weight.data.split(hidden):
                nn.init.xavier_uniform_(gate)
        elif name.startswith("bias"):
            nn.init.zeros_(weight)
            if layer.mode == "LSTM" and name.startswith("bias_ih"):
                weight.data[hidden : 2 * hidden] = 1.0


def stacked_groups(
    model: nn.Module, embedding: nn.Module, layer: nn.RNNBase, pretrained: bool
) -> list[list[nn.Parameter]]:
    """The `layer_groups` of a model of an embedding, recurrent layers, and all the rest on top.

    Args:
        model: the whole.
        embedding, layer: its parts.
        pretrained: whether these come from a language model; a backward direction, which it has not, is
            then of the top group.
    """
    fresh = {
        id(weight) for name, weight in layer.named_parameters() if pretrained and name.endswith("_reverse")
    }
    below = [list(embedding.parameters()), *layer_groups(layer)]
    groups = [[weight for weight in group if id(weight) not in fresh] for group in below]
    taken = {id(weight) for group in groups for weight in group}
    return [*groups, [weight for weight in model.parameters() if id(weight) not in taken]]
