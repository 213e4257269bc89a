"""Spans against hand-counted cases and against seqeval, an implementation of conlleval nobody here wrote."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from seqeval.metrics.sequence_labeling import get_entities

from penstock.tasks.tag.spans import SpanCounter, allowed_transitions, detect_scheme, parse


def count(gold: list[str], predicted: list[str]) -> list[int]:
    """Right, predicted and gold spans of one sentence."""
    labels = sorted({*gold, *predicted})
    found, true = (torch.tensor([[labels.index(label) for label in row]]) for row in (predicted, gold))
    counts = SpanCounter(labels).count(found, true, torch.ones_like(true, dtype=torch.bool))
    return counts.sum(1).tolist()


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-x I-x O B-y", "B-x I-x O B-y", [2, 2, 2]),
        ("B-x I-x O B-y", "B-x O O B-y", [1, 2, 2]),  # a span too short
        ("B-x I-x O", "B-y I-y O", [0, 1, 1]),  # the wrong type
        ("B-x I-x O", "O I-x O", [0, 1, 1]),  # I after O starts a span
        ("O I-x O", "O B-x O", [1, 1, 1]),
        ("B-x I-y", "B-x B-y", [2, 2, 2]),  # I of another type starts a span
        ("B-x B-x", "B-x I-x", [0, 1, 2]),  # B always starts one
        ("I-x B-x", "B-x B-x", [2, 2, 2]),  # IOB1: two that touch
        ("S-x B-x I-x E-x O S-y", "S-x B-x I-x E-x O S-y", [3, 3, 3]),
        ("S-x B-x E-x", "B-x I-x E-x", [0, 1, 2]),
        ("B-x E-x I-x O", "B-x E-x B-x O", [2, 2, 2]),  # I after E starts a span
        ("U-x B-x M-x L-x", "S-x B-x I-x E-x", [2, 2, 2]),  # other letters for the same
        ("B E S B M E", "B E S B E S", [2, 4, 3]),  # segmentation: no types
        ("O O", "O O", [0, 0, 0]),
    ],
)
def test_known_counts(gold, predicted, expected):
    assert count(gold.split(), predicted.split()) == expected


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_random_sequences_agree_with_seqeval(prefixes):
    labels = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("loc", "per", "a-b"))]
    counter = SpanCounter(labels)
    assert counter.types == ["a-b", "loc", "per"]
    rng = np.random.default_rng(0)
    gold = rng.integers(len(labels), size=(300, 12))
    predicted = np.where(rng.random(gold.shape) < 0.3, rng.integers(len(labels), size=gold.shape), gold)
    lengths = rng.integers(1, 13, size=300)
    mask = np.arange(12) < lengths[:, None]
    counts = counter.count(torch.tensor(predicted), torch.tensor(gold), torch.tensor(mask))

    expected = np.zeros((3, 3), dtype=int)
    for true_row, found_row, length in zip(gold, predicted, lengths, strict=True):
        true = set(get_entities([labels[number] for number in true_row[:length]]))
        found = set(get_entities([labels[number] for number in found_row[:length]]))
        for row, spans in enumerate((true & found, found, true)):
            for kind, *_ in spans:
                expected[row, counter.types.index(kind)] += 1
    assert counts.tolist() == expected.tolist()
    assert expected.min() > 0


def pairs_of(*sentences: str) -> Counter[tuple[str, str]]:
    return Counter(pair for sentence in sentences for pair in pairwise(["O", *sentence.split()]))


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["B-x I-x O B-y", "O O"], "bio"),
        (["B-x I-x O B-y", "O I-x", "B-x O B-x"], "bio"),  # one slip does not make another scheme
        (["I-x I-x O I-y", "I-x B-x O"], "iob1"),
        (["I-x O"], "iob1"),
        (["S-x B-x I-x E-x O"], "iobes"),
        (["U-x B-x L-x O"], "iobes"),
        (["B M E S", "S B E"], "iobes"),
        (["B I O O"], "bio"),
        (["NOUN VERB O"], None),
        (["O O"], None),
        (["S O S"], None),
        (["B-x I-x O-x"], None),
    ],
)
def test_detect_scheme(sentences, scheme):
    assert detect_scheme(pairs_of(*sentences)) == scheme


def follows(labels: list[str], scheme) -> set[str]:
    """The allowed pairs as text, the edge of a sentence as a dot."""
    names = [*labels, "."]
    table = allowed_transitions(labels, scheme)
    return {f"{names[i]} {names[j]}" for i, j in table.nonzero().tolist()}


def test_allowed_transitions():
    bio = follows(["O", "B-x", "I-x", "B-y", "I-y"], "bio")
    assert {pair for pair in bio if pair.endswith("I-x")} == {"B-x I-x", "I-x I-x"}
    assert len(bio) == 36 - 2 * 4
    iob1 = follows(["O", "B-x", "I-x", "I-y"], "iob1")
    assert {pair for pair in iob1 if pair.endswith("B-x")} == {"B-x B-x", "I-x B-x"}
    assert len(iob1) == 25 - 3
    iobes = follows(["O", "B-x", "I-x", "E-x", "S-x"], "iobes")
    assert iobes == {
        f"{before} {after}"
        for befores, afters in (("O E-x S-x .", "O B-x S-x ."), ("B-x I-x", "I-x E-x"))
        for before in befores.split()
        for after in afters.split()
    }


def test_every_scheme_allows_its_own_sequences():
    for scheme, sentence in (
        ("bio", "B-x I-x B-x O B-y"),
        ("iob1", "I-x B-x I-x O I-y"),
        ("iobes", "B-x I-x E-x S-x O B-y E-y"),
    ):
        labels = sorted(set(sentence.split()))
        allowed = follows(labels, scheme)
        assert {" ".join(pair) for pair in pairwise([".", *sentence.split(), "."])} <= allowed


def test_parse():
    assert parse("B-a-b") == ("B", "a-b")
    assert parse("L-x") == ("E", "x")
    assert parse("O") == ("O", "_")
    assert parse("O-x") is None
    assert parse("NOUN") is None


def test_labels_that_are_no_spans_are_refused():
    with pytest.raises(ValueError, match="'NOUN'"):
        SpanCounter(["O", "NOUN"])
