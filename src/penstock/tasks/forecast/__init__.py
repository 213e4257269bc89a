"""Forecasting: the coming values of series, with intervals."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.tasks.forecast.config import Config
    from penstock.tasks.forecast.predictor import Predictor
    from penstock.training.report import Report

__all__ = ["evaluate", "load", "train"]


def train(config: "Config") -> "Report":
    """Train a forecaster by its configuration; what `penstock train forecast` does.

    Raises:
        InputError: whatever is wrong with files or options.
    """
    from penstock.tasks.forecast.job import ForecastJob
    from penstock.training import fit

    return fit(ForecastJob, config)


def load(folder: Path | str, **options: Any) -> "Predictor":
    """The saved forecaster, ready to predict.

    Args:
        folder: of the model.
        options: `device`, `threads`, `batch_tokens`.

    Raises:
        InputError: whatever is wrong with the folder.
    """
    from penstock.tasks.forecast.predictor import Predictor

    return Predictor(folder, **options)


def evaluate(folder: Path | str, data: Path | str, **options: Any) -> dict[str, Any]:
    """Measure a saved forecaster on a file, forecasting from one origin after the other.

    Args:
        folder: of the model.
        data: a file like the one it was trained on, of any series.
        options: as the fields of `penstock.tasks.forecast.config.EvaluateOptions`.

    Returns:
        "metrics", and "references": the same figures of the naive and the seasonal naive forecast.

    Raises:
        InputError: whatever is wrong with folder or file.
    """
    from penstock.tasks.forecast.config import EvaluateOptions
    from penstock.tasks.forecast.predictor import Predictor

    chosen = EvaluateOptions(data=Path(data), **options)
    predictor = Predictor(folder, **chosen.model_dump(include={"device", "threads", "batch_tokens"}))
    return predictor.evaluate(chosen)
