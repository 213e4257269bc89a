"""The jobs: each a folder of the same shape, found here by its verb.

`penstock.tasks.<task>` exports `train(config) -> Report`, `evaluate(folder, data, **options) -> dict` and
`load(folder) -> Predictor`, and imports torch only inside them. `penstock.tasks.<task>.config` holds three
pydantic classes, free of torch: `Config` (train), `EvaluateOptions` and `PredictOptions`; each becomes the
flags of its verb. The rest of a task: `data.py` (files -> encoded examples), `model.py`, `metrics.py`,
`job.py` (its `penstock.training.job.Job`, called `ClassifyJob` and so on; `train(config)` is
`fit(ThatJob, config)`) and `predictor.py`.

`Predictor.predict(inputs) -> list[dict]` is for Python; `Predictor.stream(options) -> Iterator[str]` yields
the lines that `penstock predict` writes (or parts of them, `penstock.tasks.streams.Part`), in input order,
reading its input as it goes. `evaluate` returns "metrics" (name -> number) and, where the task has them:
"labels" (label -> "precision", "recall", "f1", "count"), the "confusion" matrix, whose rows are the true
labels in the order of "labels"; "references" (name of a simpler method -> its metrics); and "comparisons"
(title -> "model" and the names of slower methods -> their metrics on a part of the data).
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.training.job import Job

__all__ = ["TASKS", "get", "get_config", "get_job"]

TASKS = {
    "classify": "one label for a text or for a series of numbers",
    "tag": "one label for every word of a sentence: parts of speech, names",
    "lm": "the next character, word or piece of a text",
    "forecast": "the coming values of series, with intervals",
}


def get(task: str) -> ModuleType:
    """The package of `task`, a key of `TASKS`."""
    return importlib.import_module(f"penstock.tasks.{task}")


def get_config(task: str) -> ModuleType:
    """The module with the option classes of `task`, which imports no torch."""
    return importlib.import_module(f"penstock.tasks.{task}.config")


def get_job(task: str) -> "type[Job]":
    """What `penstock.training.fit` trains for `task`; imports torch."""
    module = importlib.import_module(f"penstock.tasks.{task}.job")
    return getattr(module, f"{task.capitalize()}Job")
