"""Language models: the next character, word or piece of a text."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.tasks.lm.config import Config
    from penstock.tasks.lm.predictor import Predictor
    from penstock.training.report import Report

__all__ = ["evaluate", "load", "train"]


def train(config: "Config") -> "Report":
    """Train a language model by its configuration; what `penstock train lm` does.

    Raises:
        InputError: whatever is wrong with files or options.
    """
    from penstock.tasks.lm.job import LmJob
    from penstock.training import fit

    return fit(LmJob, config)


def load(folder: Path | str, **options: Any) -> "Predictor":
    """The saved language model, ready to go on from a text.

    Args:
        folder: of the model.
        options: `device`, `threads`, `batch_tokens`.

    Raises:
        InputError: whatever is wrong with the folder.
    """
    from penstock.tasks.lm.predictor import Predictor

    return Predictor(folder, **options)


def evaluate(folder: Path | str, data: Path | str, **options: Any) -> dict[str, Any]:
    """Measure a saved language model on a text, every token of which is predicted once.

    Args:
        folder: of the model.
        data: a file, a folder or a pattern, as for training.
        options: as the fields of `penstock.tasks.lm.config.EvaluateOptions`.

    Returns:
        "metrics": "perplexity", "nats" per token and "bits_per_character". A text of 2048 tokens or more is
        read in parallel streams, each of which warms up on the window before it.

    Raises:
        InputError: whatever is wrong with folder or file.
    """
    from penstock.tasks.lm.config import EvaluateOptions
    from penstock.tasks.lm.predictor import Predictor

    chosen = EvaluateOptions(data=Path(data), **options)
    predictor = Predictor(folder, **chosen.model_dump(include={"device", "threads", "batch_tokens"}))
    return predictor.evaluate(chosen)
