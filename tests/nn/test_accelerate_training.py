"""Training goes on after `accelerate` with the losses it would have had, on models of several shapes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import penstock


class Tagger(nn.Module):
    """Embedding, two layers in both directions over a ragged batch, one label a word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12, padding_idx=0)
        self.encoder = nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        return self.head(hidden)

    def loss(self, chance: torch.Generator) -> Tensor:
        lengths = torch.randint(3, 12, (8,), generator=chance)
        words = torch.randint(1, 50, (8, int(lengths.max())), generator=chance)
        words[torch.arange(words.shape[1]) >= lengths[:, None]] = 0
        labels = (words % 5).masked_fill(words == 0, -100)
        return F.cross_entropy(self(words, lengths).flatten(0, 1), labels.flatten(), ignore_index=-100)


class Translator(nn.Module):
    """GRU encoder, LSTMCell decoder that attends to it at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(30, 10), nn.Embedding(30, 10)
        self.encoder = nn.GRU(10, 12, bidirectional=True)
        self.decoder = nn.LSTMCell(10 + 24, 24)
        self.head = nn.Linear(48, 30)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, _ = self.encoder(self.source(source))  # (T, B, 24)
        h = c = context = memory.new_zeros(source.shape[1], 24)
        outputs = []
        for word in self.target(target):
            h, c = self.decoder(torch.cat([word, context], -1), (h, c))
            share = torch.softmax((memory * h).sum(-1), 0)
            context = (share[..., None] * memory).sum(0)
            outputs.append(self.head(torch.cat([h, context], -1)))
        return torch.stack(outputs)

    def loss(self, chance: torch.Generator) -> Tensor:
        source = torch.randint(0, 30, (9, 6), generator=chance)
        target = source.flip(0)
        return F.cross_entropy(self(source, target[:-1]).flatten(0, 1), target[1:].flatten())


class Pooled(nn.GRU):
    """A class of the user's: the mean over time instead of every step."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input)[0].mean(0)


class Classifier(nn.Module):
    """Three layers in both directions behind one another, from the user's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Pooled(7, 10, num_layers=3, bidirectional=True)
        self.head = nn.Linear(20, 3)

    def loss(self, chance: torch.Generator) -> Tensor:
        x = torch.randn(20, 8, 7, generator=chance).to(self.head.weight.dtype)
        return F.cross_entropy(self.head(self.encoder(x)), x.sum((0, 2)).sign().long() + 1)


class Listener(nn.Module):
    """Convolutions, a strided view of what they give, an Elman network, its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(2, 8, 3, stride=2), nn.BatchNorm1d(8), nn.ReLU())
        self.rnn = nn.RNN(8, 14, batch_first=True)
        self.cell = nn.RNNCell(14, 6)
        self.head = nn.Linear(6, 1)

    def loss(self, chance: torch.Generator) -> Tensor:
        sound = torch.randn(5, 2, 41, generator=chance).to(self.head.weight.dtype)
        _, h_n = self.rnn(self.conv(sound).transpose(1, 2))
        return F.mse_loss(self.head(self.cell(h_n[-1]))[:, 0], sound.mean((1, 2)))


OPTIMIZERS: list[Callable[[nn.Module], torch.optim.Optimizer]] = [
    lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    lambda model: torch.optim.Adam(model.parameters(), lr=1e-2),
]


def losses(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(chance)  # type: ignore[operator]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(loss.detach())
    return values


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS, ids=["SGD", "Adam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", [Tagger, Translator, Classifier, Listener])
def test_training_goes_on_as_before(
    make: type[nn.Module], dtype: torch.dtype, make_optimizer, kernel_calls
) -> None:
    torch.manual_seed(0)
    theirs = make().to(dtype)
    ours = copy.deepcopy(theirs)
    curves: list[list[Tensor]] = []
    for model in (theirs, ours):
        optimizer, curve = make_optimizer(model), []
        for steps, on_kernels in ((5, False), (15, model is ours), (5, False)):
            if on_kernels:
                penstock.accelerate(model)
            seed = len(curve)
            calls = kernel_calls(
                lambda n=steps, m=model, o=optimizer, c=curve, s=seed: c.extend(losses(m, o, n, s))
            )
            assert (calls > 0) == on_kernels
            penstock.restore(model)
        curves.append(curve)
    torch.testing.assert_close(curves[1], curves[0])
