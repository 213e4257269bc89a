"""The classifier: input layer, stacked recurrent layers, pooling over time, linear."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penstock.data.vocabulary import PAD_ID, UNKNOWN_ID
from penstock.tasks.classify.config import Config
from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent, stacked_groups
from penstock.training.job import Batch, TaskModel


class Classifier(TaskModel):
    """One label for a sequence of tokens or of numbers.

    Args:
        config: layers, pooling, dropout.
        kind: of the encoder: "text" or "language" for tokens, "series" for numbers.
        input_size: different tokens, or channels.
        embedding_size: numbers that stand for a token; means nothing for series.
        classes: C, the labels.
    """

    def __init__(self, config: Config, kind: str, input_size: int, embedding_size: int, classes: int) -> None:
        super().__init__()
        self.label_smoothing = config.label_smoothing
        self.gradient_steps = config.gradient_steps
        self._pretrained = config.init_from is not None
        if kind == "series":
            self.input = SeriesInput(input_size, config.noise)
        else:
            self.input = TokenInput(input_size, embedding_size, config.embedding_dropout, config.word_dropout)
        self.recurrent = recurrent(config, self.input.output_size)
        self.pooling = Pooling(config.pooling, output_size(config))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(self.pooling.output_size, classes)
        initialize_recurrent(self.recurrent)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C) for "inputs", int64 (B, T) or float32 (B, T, D), with "lengths" (B,)."""
        outputs, state = self._read(self.input(batch["inputs"]), batch["lengths"])
        hidden = state[0] if isinstance(state, tuple) else state
        directions = 2 if self.recurrent.bidirectional else 1
        last = hidden[-directions:].transpose(0, 1).flatten(1)
        return self.output(self.dropout(self.pooling(outputs, last, batch["lengths"])))

    def _read(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """Outputs and final states of the recurrent layers for x (B, T, D).

        In training the gradient goes back through the last `gradient_steps` only, as in truncated
        back-propagation through time (Williams & Peng 1990).
        """
        early = x.shape[1] - self.gradient_steps
        if not self.training or not self.gradient_steps or early <= 0:
            return self.recurrent(x, lengths=lengths)
        with torch.no_grad():
            before, state = self.recurrent(x[:, :early], lengths=lengths.clamp(max=early))
        after, state = self.recurrent(x[:, early:], state, lengths=(lengths - early).clamp(min=0))
        return torch.cat([before, after], 1), state

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Embedding, recurrent layers, and what is above them."""
        return stacked_groups(self, self.input, self.recurrent, self._pretrained)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of logits (B, C) with "labels" (B,)."""
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(outputs, batch["labels"], label_smoothing=smoothing)


class TokenInput(nn.Module):
    """Token ids (B, T) to vectors (B, T, D).

    Args:
        vocabulary: different tokens.
        size: D.
        dropout: share of the numbers that is dropped in training.
        word_dropout: share of the tokens that become unknown in training.
    """

    def __init__(self, vocabulary: int, size: int, dropout: float, word_dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size, padding_idx=PAD_ID)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = word_dropout
        self.output_size = size
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.embedding.weight.data[PAD_ID] = 0.0

    def start_from(self, vectors: Tensor, freeze: bool) -> None:
        """Begin with pretrained `vectors` (V, D), and with `freeze` keep them."""
        self.embedding.weight.data.copy_(vectors)
        self.embedding.weight.requires_grad = not freeze

    def forward(self, ids: Tensor) -> Tensor:
        if self.training and self.word_dropout:
            forgotten = (torch.rand(ids.shape, device=ids.device) < self.word_dropout) & (ids != PAD_ID)
            ids = ids.masked_fill(forgotten, UNKNOWN_ID)
        return self.dropout(self.embedding(ids))


class SeriesInput(nn.Module):
    """Standardised series (B, T, D), with noise of standard deviation `noise` in training."""

    def __init__(self, channels: int, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.output_size = channels

    def forward(self, series: Tensor) -> Tensor:
        return series + self.noise * torch.randn_like(series) if self.training and self.noise else series


class Pooling(nn.Module):
    """The outputs of all steps (B, T, H) to one vector (B, `output_size`).

    Args:
        kind: "last" (the final states), "mean", "max", several of them joined by "+" (all three are the
            concat pooling of Howard & Ruder 2018), or "attention" (a mean weighted by what the outputs
            themselves say; Yang et al. 2016).
        size: H, both directions together.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.kinds = kind.split("+")
        self.output_size = len(self.kinds) * size
        if kind == "attention":
            self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))

    def forward(self, outputs: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        """Pool `outputs`, zero beyond `lengths` (B,); `last` (B, H) are the final states."""
        pooled = (last if kind == "last" else self._over_time(kind, outputs, lengths) for kind in self.kinds)
        return torch.cat(list(pooled), 1)

    def _over_time(self, kind: str, outputs: Tensor, lengths: Tensor) -> Tensor:
        count = lengths.clamp(min=1).to(outputs.device).unsqueeze(1)
        if kind == "mean":
            return outputs.sum(1) / count
        beyond = torch.arange(outputs.shape[1], device=outputs.device) >= count
        if kind == "max":
            return outputs.masked_fill(beyond.unsqueeze(2), -torch.inf).amax(1)
        weights = self.score(outputs).squeeze(2).masked_fill(beyond, -torch.inf).softmax(1)
        return (weights.unsqueeze(1) @ outputs).squeeze(1)
