"""Tagging: one label for every token of a sentence, such as parts of speech and names."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.tasks.tag.config import Config
    from penstock.tasks.tag.predictor import Predictor
    from penstock.training.report import Report

__all__ = ["evaluate", "load", "train"]


def train(config: "Config") -> "Report":
    """Train a tagger by its configuration; what `penstock train tag` does.

    Raises:
        InputError: whatever is wrong with files or options.
    """
    from penstock.tasks.tag.job import TagJob
    from penstock.training import fit

    return fit(TagJob, config)


def load(folder: Path | str, **options: Any) -> "Predictor":
    """The saved tagger, ready to predict.

    Args:
        folder: of the model.
        options: `device`, `threads`, `batch_tokens`.

    Raises:
        InputError: whatever is wrong with the folder.
    """
    from penstock.tasks.tag.predictor import Predictor

    return Predictor(folder, **options)


def evaluate(folder: Path | str, data: Path | str, **options: Any) -> dict[str, Any]:
    """Measure a saved tagger on a tagged file.

    Args:
        folder: of the model.
        data: a file like those it was trained on.
        options: as the fields of `penstock.tasks.tag.config.EvaluateOptions`.

    Returns:
        "metrics": where labels mark spans, "f1", "precision" and "recall" of spans as conlleval counts them,
        and always "accuracy" of the labels; "labels": the figures of each type of span, or of each label; and
        without spans "confusion", whose rows are the true labels.

    Raises:
        InputError: whatever is wrong with folder or file, a label unknown to the model among it.
    """
    from penstock.tasks.tag.config import EvaluateOptions
    from penstock.tasks.tag.predictor import Predictor

    chosen = EvaluateOptions(data=Path(data), **options)
    predictor = Predictor(folder, **chosen.model_dump(include={"device", "threads", "batch_tokens"}))
    return predictor.evaluate(chosen)
