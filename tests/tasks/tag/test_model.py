"""The tagger's parts: what it reads, what it loses, what it decides."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from penstock.tasks.tag.config import Config
from penstock.tasks.tag.data import collate
from penstock.tasks.tag.model import Tagger

SPANS = ["B-x", "I-x", "O"]
FORMS = [np.array(row, np.int32) for row in ([2, 2, 3], [3, 3], [2, 4, 3, 2], [1, 2])]
SENTENCES = [np.array(row, np.int32) for row in ([0, 1, 2, 0], [3], [2, 1])]
LABELS = torch.tensor([[0, 1, 2, 0], [2, 0, 0, 0], [0, 2, 0, 0]])


def make(labels: list[str] | None = None, scheme=None, **options) -> Tagger:
    torch.manual_seed(0)
    sizes = {"embedding_size": 5, "character_embedding_size": 4, "character_hidden_size": 3, "hidden_size": 6}
    config = Config.model_validate({"data": "train.tsv", "output": "out", **sizes, **options})
    return Tagger(config, words=4, characters=5, embedding_size=5, labels=labels or SPANS, scheme=scheme)


def batch() -> dict[str, torch.Tensor]:
    return {**collate(SENTENCES, FORMS), "labels": LABELS}


CELLS = [
    {"cell": "lstm"},
    {"cell": "lstm", "peephole": True, "layers": 2},
    {"cell": "lstm", "projection_size": 4},
    {"cell": "gru", "reset_after": False},
    {"cell": "rnn", "bidirectional": False},
    {"character_hidden_size": 0},
]


@pytest.mark.parametrize("options", CELLS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("scheme", ["bio", None])
def test_every_cell_learns(options, scheme):
    model = make(scheme=scheme, **options)
    loss = model.loss(model(batch()), batch())
    loss.backward()
    assert loss.isfinite()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("scheme", ["bio", None])
def test_a_sentence_does_not_see_its_neighbours(scheme):
    model = make(scheme=scheme).eval()
    together = model(batch())
    for row, sentence in enumerate(SENTENCES):
        alone = model(collate([sentence], FORMS))
        torch.testing.assert_close(together.emissions[row, : len(sentence)], alone.emissions[0])
        assert together.labels[row, : len(sentence)].tolist() == alone.labels[0].tolist()


def test_loss_of_single_labels_is_cross_entropy_per_token():
    model = make().eval()
    outputs = model(batch())
    rows = [
        (outputs.emissions[row, t], LABELS[row, t]) for row, s in enumerate(SENTENCES) for t in range(len(s))
    ]
    expected = sum(F.cross_entropy(emission, label) for emission, label in rows) / len(rows)
    torch.testing.assert_close(model.loss(outputs, batch()), expected)


def test_crf_option():
    assert make(scheme=None).chain is None
    assert make(scheme="bio").chain is not None
    assert make(scheme=None, crf=True).chain is not None
    assert make(scheme="bio", crf=False).chain is None


@pytest.mark.parametrize("crf", [True, False])
def test_spans_are_decoded_to_valid_sequences(crf):
    model = make(scheme="bio", crf=crf).eval()
    emissions = 3 * torch.randn(200, 6, 3, generator=torch.Generator().manual_seed(0))
    labels = model.decode(emissions, torch.full((200,), 6))
    assert (emissions.argmax(2) != labels).any()
    for row in labels.tolist():
        for before, after in itertools.pairwise([2, *row]):
            assert after != 1 or before != 2, "I-x never follows O"


def test_probabilities_are_of_valid_sequences():
    model = make(scheme="bio", crf=False).eval()
    emissions = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(1))
    probability = model.probabilities(emissions, torch.tensor([2]))
    scores = {
        (i, j): float(torch.exp(emissions[0, 0, i] + emissions[0, 1, j]))
        for i, j in itertools.product(range(3), repeat=2)
        if i != 1 and not (i == 2 and j == 1)
    }
    total = sum(scores.values())
    expected = [sum(score for (i, _), score in scores.items() if i == k) / total for k in range(3)]
    assert probability[0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert make().probabilities(emissions, torch.tensor([2])).sum(2).tolist() == [[pytest.approx(1)] * 2]


def test_word_dropout_depends_on_frequency():
    model = make(word_dropout=1.0)
    model.frequency.copy_(torch.tensor([0.0, 0.0, 1.0, 9.0]))
    words = torch.tensor([2, 3, 0]).repeat(20_000, 1)
    torch.manual_seed(0)
    dropped = model.train()._dropped(words)
    share = (dropped == 1).float().mean(0)
    assert share.tolist() == pytest.approx([1 / 2, 1 / 10, 0], abs=0.02)
    assert torch.equal(model.eval()._dropped(words), words)


def test_vectors_and_freezing():
    model = make()
    vectors = torch.arange(20.0).view(4, 5)
    model.start_from(vectors, freeze=True)
    assert torch.equal(model.word_embedding.weight, vectors)
    assert not model.word_embedding.weight.requires_grad
