"""Penstock: recurrent networks at the speed of the machine."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.nn.accelerate import accelerate as accelerate
    from penstock.nn.accelerate import accelerate_all as accelerate_all
    from penstock.nn.accelerate import accelerated as accelerated
    from penstock.nn.accelerate import restore as restore
    from penstock.nn.accelerate import restore_all as restore_all

__all__ = ["__version__", "accelerate", "accelerate_all", "accelerated", "load", "restore", "restore_all"]

try:
    __version__ = version("penstock")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def load(folder: Path | str, **options: Any) -> Any:
    """A saved model, ready to predict: `penstock.load("model").predict([...])`.

    Args:
        folder: what `penstock train` wrote.
        options: `device` ("auto", "cpu", "cuda", "mps"), `threads` and `batch_tokens`.

    Returns:
        the `Predictor` of the model's task.

    Raises:
        InputError: naming the file that is missing, truncated or foreign.
    """
    from penstock import tasks
    from penstock.errors import InputError
    from penstock.training.saved import read_model

    task = read_model(folder).task
    if task not in tasks.TASKS:
        raise InputError(f"{folder}: unknown task {task!r}, expected one of {', '.join(tasks.TASKS)}")
    return tasks.get(task).load(folder, **options)


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    from penstock.nn import accelerate

    return getattr(accelerate, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
