"""Figures against hand-counted ones, and against seqeval on random labels."""

import numpy as np
import pytest
import torch
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score

from penstock.tasks.tag.metrics import TagMetric
from penstock.tasks.tag.model import Outputs

SPANS = ["O", "B-x", "I-x", "B-y", "I-y"]


def update(metric: TagMetric, predicted: np.ndarray, gold: np.ndarray, lengths: np.ndarray) -> None:
    emissions = torch.zeros(*gold.shape, len(metric.labels))
    batch = {"labels": torch.tensor(gold), "lengths": torch.tensor(lengths)}
    metric.update(Outputs(emissions, torch.tensor(predicted)), batch)


def draw(labels: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(labels, size=(40, 9))
    predicted = np.where(rng.random(gold.shape) < 0.3, rng.integers(labels, size=gold.shape), gold)
    return predicted, gold, rng.integers(1, 10, size=40)


def test_agrees_with_seqeval_over_several_batches():
    metric, found, true = TagMetric(SPANS, spans=True), [], []
    for seed in range(3):
        predicted, gold, lengths = draw(5, seed)
        update(metric, predicted, gold, lengths)
        for rows, numbers in ((found, predicted), (true, gold)):
            rows += [[SPANS[i] for i in row[:n]] for row, n in zip(numbers, lengths, strict=True)]
    figures = {name: float(value) for name, value in metric.compute().items()}
    expected = {
        "f1": f1_score(true, found),
        "precision": precision_score(true, found),
        "recall": recall_score(true, found),
        "accuracy": accuracy_score(true, found),
    }
    assert figures == pytest.approx(expected)
    assert next(iter(figures)) == "f1"
    labels = metric.details()["labels"]
    assert list(labels) == ["x", "y"]
    assert [row["f1"] for row in labels.values()] == pytest.approx(f1_score(true, found, average=None))


def test_scores_of_single_labels():
    metric = TagMetric(["A", "B", "C"], spans=False)
    update(metric, np.array([[0, 1, 1], [0, 0, 2]]), np.array([[0, 1, 0], [1, 0, 2]]), np.array([3, 2]))
    assert {name: float(value) for name, value in metric.compute().items()} == {"accuracy": 3 / 5}
    details = metric.details()
    assert details["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert details["labels"]["A"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "count": 3}
    )
    assert details["labels"]["C"] == {"precision": 0, "recall": 0, "f1": 0, "count": 0}


def test_counts_add_up_over_processes():
    parts = [TagMetric(SPANS, spans=True) for _ in range(2)]
    whole = TagMetric(SPANS, spans=True)
    for seed, part in enumerate(parts):
        update(part, *draw(5, seed))
        update(whole, *draw(5, seed))
    parts[0].merge_state(parts[1])
    assert all(torch.equal(parts[0].compute()[name], value) for name, value in whole.compute().items())


def test_reset():
    metric = TagMetric(SPANS, spans=True)
    update(metric, *draw(5, 0))
    metric.reset()
    _, gold, lengths = draw(5, 1)
    update(metric, gold, gold, lengths)
    assert {float(value) for value in metric.compute().values()} == {1.0}
