"""What a classifier is measured by."""

from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from penstock.data.vocabulary import Labels
from penstock.training.job import Batch


class ClassifyMetric(MetricCollection):
    """Accuracy and macro-averaged F1 over `classes` labels; in detail also the figures of every label."""

    def __init__(self, classes: int, detailed: bool = False) -> None:
        metrics: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(classes, average="macro", validate_args=False),
        }
        if detailed:
            metrics |= {
                "precision": MulticlassPrecision(classes, average=None, validate_args=False),
                "recall": MulticlassRecall(classes, average=None, validate_args=False),
                "f1": MulticlassF1Score(classes, average=None, validate_args=False),
                "confusion": MulticlassConfusionMatrix(classes, validate_args=False),
            }
        super().__init__(metrics)

    def update(self, outputs: Tensor, batch: Batch) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take in logits (B, C) and a batch with "labels" (B,)."""
        super().update(outputs, batch["labels"])


def describe(figures: dict[str, Tensor], labels: Labels) -> dict[str, Any]:
    """The figures of a detailed metric in the form that `penstock evaluate` shows and writes."""
    counts = figures["confusion"].sum(1)
    return {
        "metrics": {name: float(figures[name]) for name in ("accuracy", "macro_f1", "loss")},
        "labels": {
            label: {
                **{name: float(figures[name][i]) for name in ("precision", "recall", "f1")},
                "count": int(counts[i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion": figures["confusion"].tolist(),
    }
