"""Search of hyper-parameters: many short trainings of one task, by Optuna, and the best model of them.

`penstock search` on the command line, `search(task, config, ...)` in Python. Importing this package imports
neither torch nor Optuna.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.search.run import Result
    from penstock.training.config import TrainingOptions

__all__ = ["search"]


def search(
    task: str, config: "TrainingOptions", space: "Mapping[str, Any] | None" = None, **options: Any
) -> "Result":
    """Train with many settings, and keep the best model in `config.output/best`.

    What was interrupted, by Ctrl-C or by a kill, goes on with the same call. The test data are not looked at
    before the end, when the best model is measured on them.

    Args:
        task: "classify", "tag", "lm" or "forecast".
        config: the task's `Config`. `output` is the folder of the search; with `overwrite` a search that lies
            there is removed first; `resume` means nothing here.
        space: option name -> a list of choices, {"choices": [...]} or {"low": a, "high": b, "log": False,
            "step": None}. If not given, the task's own space (`penstock.search.space.DEFAULTS`) without the
            options that `config` was given.
        options: as the fields of `penstock.search.options.SearchOptions`: trials (20), timeout (None),
            pruner ("median") and sampler ("tpe").

    Returns:
        the trials, and the report of the best one.

    Raises:
        InputError: whatever is wrong with files or options; another search lies in the folder; or no trial is
            complete.
    """
    from penstock.search.options import SearchOptions  # noqa: PLC0415  (Optuna and torch take seconds)
    from penstock.search.run import Search  # noqa: PLC0415

    return Search(task, config, space, SearchOptions(**options)).run()
