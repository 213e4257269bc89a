"""Classification: one label for a text or for a series of numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.tasks.classify.config import Config
    from penstock.tasks.classify.predictor import Predictor
    from penstock.training.report import Report

__all__ = ["evaluate", "load", "train"]


def train(config: "Config") -> "Report":
    """Train a classifier by its configuration; what `penstock train classify` does.

    Raises:
        InputError: whatever is wrong with files or options.
    """
    from penstock.tasks.classify.job import ClassifyJob
    from penstock.training import fit

    return fit(ClassifyJob, config)


def load(folder: Path | str, **options: Any) -> "Predictor":
    """The saved classifier, ready to predict.

    Args:
        folder: of the model.
        options: `device`, `threads`, `batch_tokens`.

    Raises:
        InputError: whatever is wrong with the folder.
    """
    from penstock.tasks.classify.predictor import Predictor

    return Predictor(folder, **options)


def evaluate(folder: Path | str, data: Path | str, **options: Any) -> dict[str, Any]:
    """Measure a saved classifier on a labelled file.

    Args:
        folder: of the model.
        data: a file like those it was trained on.
        options: as the fields of `penstock.tasks.classify.config.EvaluateOptions`.

    Returns:
        "metrics", "labels" with the figures of each, and "confusion", whose rows are the true labels.

    Raises:
        InputError: whatever is wrong with folder or file, a label unknown to the model among it.
    """
    from penstock.tasks.classify.config import EvaluateOptions
    from penstock.tasks.classify.predictor import Predictor

    chosen = EvaluateOptions(data=Path(data), **options)
    predictor = Predictor(folder, **chosen.model_dump(include={"device", "threads", "batch_tokens"}))
    return predictor.evaluate(chosen)
