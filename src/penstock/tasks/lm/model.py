"""The language model: embedding, recurrent layers that carry their states, scores of the next token.

Regularized as Merity et al. (2018, "Regularizing and Optimizing LSTM Language Models") have it. Locked
dropout drops the same activations at every step (Gal & Ghahramani 2016).

Dimensions: B batch, T time, D embedding, V tokens, R output of the last layer.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent
from penstock.tasks.lm.config import Config
from penstock.tasks.lm.data import IGNORED
from penstock.tasks.lm.output import AdaptiveOutput, FullOutput
from penstock.training.job import Batch, TaskModel

States = list[Any]
"""Of each layer, its final states as it returns them; None for zeros."""


class Outputs(NamedTuple):
    """What the model says of a batch."""

    nats: Tensor  # (B, T), the negative log-likelihood of each target; 0 where there is none
    last: Tensor  # (B, T, R), outputs of the last layer
    dropped: Tensor  # the same after dropout


class LanguageModel(TaskModel):
    """Embedding, recurrent layers each of its own, scores of all tokens.

    Args:
        config: sizes, cell, dropouts, penalties, cut-offs of the output or whether to tie it.
        tokens: V.
    """

    def __init__(self, config: Config, *, tokens: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(tokens, config.embedding_size)
        size = config.embedding_size
        for number in range(config.layers):
            options = _layer_options(config, last=number == config.layers - 1)
            layer = recurrent(options, size)
            initialize_recurrent(layer)
            self.add_module(f"recurrent{number + 1}", layer)
            size = output_size(options)
        if config.adaptive_softmax:
            self.output = AdaptiveOutput(size, tokens, config.adaptive_softmax)
        else:
            self.output = FullOutput(size, tokens, config.tie)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self._carried: States | None = None

    def forward(self, batch: Batch) -> Outputs:
        """How likely the targets of a window are, from the states that the last window left."""
        last, states = self.run(batch["inputs"], self._states(batch["begins"]))
        self._carried = [_each(torch.Tensor.detach, state) for state in states]
        dropped = locked_dropout(last, self.config.dropout, self.training)
        return Outputs(self.nats(dropped, batch["targets"]), last, dropped)

    def run(self, inputs: Tensor, states: States) -> tuple[Tensor, States]:
        """Outputs of the last layer (B, T, R) for `inputs` (B, T) from given states, and the states then."""
        x = locked_dropout(self._embedded(inputs), self.config.input_dropout, self.training)
        finals = []
        for number, state in enumerate(states, start=1):
            if number > 1:
                x = locked_dropout(x, self.config.dropout, self.training)
            x, final = self._run_layer(self.get_submodule(f"recurrent{number}"), x, state)
            finals.append(final)
        return x, finals

    def nats(self, x: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of targets (B, T) after outputs x (B, T, R); 0 for `IGNORED` ones."""
        return self.output(x, targets, self.embedding.weight)

    def scores(self, x: Tensor) -> Tensor:
        """Log probabilities of the next token, (B, V), up to a number a row, after outputs x (B, R)."""
        return self.output.scores(x, self.embedding.weight)

    def beginning(self) -> States:
        """The states before any token."""
        return [None] * self.config.layers

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Nats per token, in training with the penalties."""
        nats = outputs.nats.sum() / self.weight(batch).clamp(min=1)
        config = self.config
        if not self.training:
            return nats
        if config.activation_penalty:
            nats = nats + config.activation_penalty * outputs.dropped.square().mean()
        if config.change_penalty and outputs.last.shape[1] > 1:
            nats = nats + config.change_penalty * outputs.last.diff(dim=1).square().mean()
        return nats

    def weight(self, batch: Batch) -> Tensor:
        """The number of tokens predicted."""
        return (batch["targets"] != IGNORED).sum()

    def carried(self) -> States | None:
        """The states after the last batch."""
        return self._carried

    def carry(self, carried: States | None) -> None:
        """Go on from these states."""
        self._carried = carried

    def _states(self, begins: Tensor) -> States:
        """The carried states, zero for rows (B,) that begin."""
        if self._carried is None or _rows(self._carried) != len(begins):
            return self.beginning()
        return [
            _each(lambda tensor: tensor.to(begins.device).masked_fill(begins[:, None], 0), state)
            for state in self._carried
        ]

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Embeddings (B, T, D), in training those of some tokens zero wherever they occur."""
        x = self.embedding(inputs)
        share = self.config.embedding_dropout
        if not self.training or not share:
            return x
        kept = F.dropout(x.new_ones(self.embedding.num_embeddings), share)
        return x * kept[inputs][:, :, None]

    def _run_layer(self, layer: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One layer, in training with some of its recurrent weights dropped (Wan et al. 2013)."""
        share = self.config.weight_dropout
        if not self.training or not share:
            return layer(x, state)
        weights = {"weight_hh_l0": F.dropout(layer.get_parameter("weight_hh_l0"), share)}
        return functional_call(layer, weights, (x, state))


def locked_dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Drop some of the numbers of x (B, T, D): of each row, the same ones at every step."""
    if not training or not share:
        return x
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)


def joined(rows: list[States]) -> States:
    """The states of several rows, each of a batch of one, as those of one batch."""
    return [_joined(layer) for layer in zip(*rows, strict=True)]


def _joined(states: tuple[Any, ...]) -> Any:
    if isinstance(states[0], tuple | list):
        return tuple(torch.cat(tensors, dim=1) for tensors in zip(*states, strict=True))
    return torch.cat(states, dim=1)


def _layer_options(config: Config, last: bool) -> Config:
    """The options of one layer of the stack."""
    tied = {"hidden_size": config.embedding_size, "projection_size": 0} if last and config.tie else {}
    return config.model_copy(update={"layers": 1, **tied})


def _each(change: Any, state: Any) -> Any:
    """A layer's state with each of its tensors changed."""
    return tuple(map(change, state)) if isinstance(state, tuple | list) else change(state)


def _rows(states: States) -> int:
    """B; every tensor of a state is (1, B, ...)."""
    first = states[0]
    return (first[0] if isinstance(first, tuple | list) else first).shape[1]
