"""How good labels are: accuracy, scores of each label, and of spans as conlleval counts them."""

from typing import Any

import torch
import torchmetrics
from torch import Tensor

from penstock.tasks.tag.model import Outputs
from penstock.tasks.tag.spans import SpanCounter
from penstock.training.job import Batch


class TagMetric(torchmetrics.Metric):
    """Counts labels, and the spans they mark; the counts are summed over batches and processes.

    Args:
        labels: the K labels.
        spans: whether they mark spans.
    """

    full_state_update = False
    confusion: Tensor  # int64 (K, K): tokens, rows being the truth
    spans: Tensor  # int64 (3, C): spans found right, spans predicted, spans in gold; of each type

    def __init__(self, labels: list[str], spans: bool) -> None:
        super().__init__()
        self.labels = labels
        self.counter = SpanCounter(labels) if spans else None
        size = len(labels)
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")
        types = len(self.counter.types) if self.counter else 0
        self.add_state("spans", torch.zeros(3, types, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Count a batch."""
        assert outputs.labels is not None, "the model is in evaluation mode"
        gold, lengths = batch["labels"], batch["lengths"]
        inside = torch.arange(gold.shape[1], device=gold.device) < lengths[:, None]
        size = len(self.labels)
        cells = gold[inside] * size + outputs.labels[inside]
        self.confusion += torch.bincount(cells, minlength=size * size).view(size, size)
        if self.counter:
            self.spans += self.counter.count(outputs.labels, gold, inside)

    def compute(self) -> dict[str, Tensor]:
        """Accuracy of the labels; with spans first F1, precision and recall over all types together."""
        accuracy = {"accuracy": _ratio(self.confusion.trace(), self.confusion.sum())}
        if not self.counter:
            return accuracy
        precision, recall, f1 = _scores(*self.spans.sum(dim=1))
        return {"f1": f1, "precision": precision, "recall": recall, **accuracy}

    def details(self) -> dict[str, Any]:
        """Scores of each span type; or, without spans, of each label, with the confusion matrix.

        Returns:
            {"labels": {name: {"precision", "recall", "f1", "count"}}, "confusion": [[int]]}, the matrix with
            the truth in rows, in the order of the labels.
        """
        if self.counter:
            return {"labels": _table(self.counter.types, *self.spans)}
        counts = self.confusion.diagonal(), self.confusion.sum(dim=0), self.confusion.sum(dim=1)
        return {"labels": _table(self.labels, *counts), "confusion": self.confusion.tolist()}


def _table(names: list[str], right: Tensor, predicted: Tensor, gold: Tensor) -> dict[str, dict[str, float]]:
    scores = torch.stack([*_scores(right, predicted, gold)], dim=1).tolist()
    return {
        name: {"precision": precision, "recall": recall, "f1": f1, "count": int(count)}
        for name, (precision, recall, f1), count in zip(names, scores, gold.tolist(), strict=True)
    }


def _scores(right: Tensor, predicted: Tensor, gold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1; zero where there is nothing to divide by."""
    return _ratio(right, predicted), _ratio(right, gold), _ratio(2 * right, predicted + gold)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part.double() / whole.clamp(min=1)
