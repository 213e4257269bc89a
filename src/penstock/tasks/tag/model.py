"""The tagger: words and characters, recurrent layers over the sentence, labels one by one or as a chain.

Dimensions: B batch, T time, K labels, U distinct forms of a batch, C characters.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from penstock.data.vocabulary import PAD_ID, UNKNOWN_ID
from penstock.tasks.encoder import initialize_recurrent, output_size, recurrent, stacked_groups
from penstock.tasks.tag.config import Config
from penstock.tasks.tag.crf import (
    Chain,
    ChainParameters,
    log_partition,
    marginals,
    path_score,
    viterbi,
    zero_chain,
)
from penstock.tasks.tag.spans import Scheme, allowed_transitions
from penstock.training.job import Batch, TaskModel


class Outputs(NamedTuple):
    """What the tagger says of a batch."""

    emissions: Tensor  # (B, T, K)
    labels: Tensor | None  # int64 (B, T), the labels decided on; not in training


class Tagger(TaskModel):
    """Embedding and characters of each word, recurrent layers, scores of labels, and their decoding.

    Labels that mark spans are always decoded to a valid sequence of their scheme.

    Args:
        config: sizes, cell, dropout, whether to decode by a conditional random field.
        words: V, different words.
        characters: different characters.
        embedding_size: numbers that stand for a word.
        labels: the K labels.
        scheme: how they mark spans, or None.

    Attributes:
        frequency: (V,) how often each word occurs in the training data; word dropout asks for it.
    """

    frequency: Tensor
    allowed: Tensor | None

    def __init__(
        self,
        config: Config,
        *,
        words: int,
        characters: int,
        embedding_size: int,
        labels: list[str],
        scheme: Scheme | None,
    ) -> None:
        super().__init__()
        self.word_dropout = config.word_dropout
        self._pretrained = config.init_from is not None
        self.word_embedding = nn.Embedding(words, embedding_size, padding_idx=PAD_ID)
        self.register_buffer("frequency", torch.zeros(words))
        self.spelling = Spelling(characters, config) if config.character_hidden_size else None
        size = embedding_size + (self.spelling.output_size if self.spelling else 0)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.encoder = recurrent(config, size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(output_size(config), len(labels))
        crf = config.crf if config.crf is not None else scheme is not None
        self.chain = ChainParameters(len(labels)) if crf else None
        allowed = allowed_transitions(labels, scheme).float() if scheme else None
        self.register_buffer("allowed", allowed, persistent=False)  # float: weight averaging takes no bool
        nn.init.normal_(self.word_embedding.weight, std=0.1)
        self.word_embedding.weight.data[PAD_ID] = 0
        initialize_recurrent(self.encoder)

    def start_from(self, vectors: Tensor, freeze: bool) -> None:
        """Begin with pretrained word vectors (V, D), and with `freeze` keep them."""
        self.word_embedding.weight.data.copy_(vectors)
        self.word_embedding.weight.requires_grad = not freeze

    def forward(self, batch: Batch) -> Outputs:
        """Scores of all labels, and outside training the labels decided on."""
        x = self.word_embedding(self._dropped(batch["words"]))
        if self.spelling:
            spelled = self.spelling(batch["characters"], batch["character_lengths"])
            x = torch.cat([x, F.embedding(batch["forms"], spelled)], dim=2)
        x, _ = self.encoder(self.embedding_dropout(x), lengths=batch["lengths"])
        emissions = self.output(self.dropout(x))
        return Outputs(emissions, None if self.training else self.decode(emissions, batch["lengths"]))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Embedding of words, recurrent layers, and the rest: spelling, scores and chain of labels."""
        return stacked_groups(self, self.word_embedding, self.encoder, self._pretrained)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Negative log-likelihood of the labels, in nats per token."""
        lengths, labels = batch["lengths"], batch["labels"]
        if self.chain is None:
            inside = _inside(outputs.emissions, lengths)
            return F.cross_entropy(outputs.emissions[inside], labels[inside])
        chain = self.chain()
        score = path_score(outputs.emissions, labels, lengths, chain)
        return (log_partition(outputs.emissions, lengths, chain) - score).sum() / lengths.sum()

    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The best labels that the scheme allows, int64 (B, T)."""
        if self.chain is None and self.allowed is None:
            return emissions.argmax(dim=2)
        return viterbi(emissions, lengths, self._decoding_chain(emissions))

    def probabilities(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The probability of each label at each step, (B, T, K), over the sequences the scheme allows."""
        if self.chain is None and self.allowed is None:
            return emissions.softmax(dim=2)
        return marginals(emissions, lengths, self._decoding_chain(emissions))

    def _decoding_chain(self, emissions: Tensor) -> Chain:
        chain = zero_chain(emissions) if self.chain is None else self.chain()
        return chain if self.allowed is None else chain.restricted_to(self.allowed > 0)

    def _dropped(self, words: Tensor) -> Tensor:
        """The words, in training some of them made unknown (Kiperwasser & Goldberg 2016)."""
        if not self.training or not self.word_dropout:
            return words
        chance = self.word_dropout / (self.word_dropout + self.frequency[words])
        return words.masked_fill((torch.rand_like(chance) < chance) & (words != PAD_ID), UNKNOWN_ID)


class Spelling(nn.Module):
    """A vector for each form from its characters: the final states of a layer that reads them both ways.

    Args:
        characters: size of the character vocabulary.
        config: sizes and cell.
    """

    def __init__(self, characters: int, config: Config) -> None:
        super().__init__()
        options = config.model_copy(
            update={
                "layers": 1,
                "hidden_size": config.character_hidden_size,
                "bidirectional": True,
                "projection_size": 0,
            }
        )
        self.output_size = output_size(options)
        self.embedding = nn.Embedding(characters, config.character_embedding_size, padding_idx=PAD_ID)
        self.encoder = recurrent(options, config.character_embedding_size)
        initialize_recurrent(self.encoder)

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """From character ids (U, C) and lengths (U,) to vectors (U, 2 H)."""
        _, states = self.encoder(self.embedding(characters), lengths=lengths)
        hidden = states[0] if isinstance(states, tuple) else states  # (2, U, H)
        return hidden.transpose(0, 1).flatten(1)


def _inside(emissions: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(emissions.shape[1], device=emissions.device) < lengths[:, None]
