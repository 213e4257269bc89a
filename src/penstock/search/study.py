"""The trials of a search, kept by Optuna in a file: each is there, with its values, until it has ended."""

import contextlib
import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from penstock.errors import InputError
from penstock.files import atomic_write
from penstock.search.options import SearchOptions
from penstock.search.space import Space, Value

_NAME = "search"
_PATIENT_EPOCHS = 2  # no trial is pruned before


@dataclass(frozen=True)
class Trial:
    """What came of one setting.

    Attributes:
        number: from 1.
        state: "complete"; "pruned", worse than others early on; "diverged", its loss was no longer finite;
            "impossible", its values do not go together; or "running", also when it was interrupted.
        figure: the best dev figure, or None before the end of an epoch.
        epochs: how many ended.
        loss: the dev loss of the best epoch, where the trial is complete.
        seconds: of training; 0 for a trial that runs.
        values: option name -> value.
        note: what was wrong, or "".
    """

    number: int
    state: str
    figure: float | None
    epochs: int = 0
    loss: float = math.inf
    seconds: float = 0.0
    values: dict[str, Value] = field(default_factory=dict)
    note: str = ""


class Study:
    """The trials in the file `study.db`, which is made if it is not there.

    Args:
        folder: of the search.
        space: what is searched.
        options: sampler and pruner.
        seed: of the sampler.
        lower_is_better: of the dev figure.
    """

    def __init__(
        self, folder: Path, space: Space, options: SearchOptions, seed: int, lower_is_better: bool
    ) -> None:
        self._csv = folder / "trials.csv"
        self._space = space
        self._options = options
        self._seed = seed
        self._sign = -1 if lower_is_better else 1
        if "?" in str(folder):
            raise InputError(f"{folder}: expected a folder without ? in its name, which SQLite does not take")
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=_NAME,
            load_if_exists=True,
            direction="minimize" if lower_is_better else "maximize",
            pruner=_pruner(options.pruner),
        )

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    @property
    def monitor(self) -> str:
        """Name of the dev figure; "figure" before the first is known."""
        return self._study.user_attrs.get("monitor", "figure")

    @property
    def trials(self) -> list[Trial]:
        """All of them, in the order in which they began."""
        return [self._read(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state != "running"]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best figure, and with the lower dev loss among equals."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Trial]:
        """The complete trials, the best one first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-self._sign * (trial.figure or 0.0), trial.loss))

    def next(self) -> optuna.Trial:
        """The trial that was interrupted, or a new one; its values are chosen and stored.

        What is chosen depends on seed and earlier trials alone, not on how often the search was interrupted.
        """
        trials = self._study.get_trials(deepcopy=False)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        number = running[0].number if running else len(trials)
        self._study.sampler = _sampler(self._options.sampler, self._seed, number)
        trial = optuna.Trial(self._study, running[0]._trial_id) if running else self._study.ask()
        for name, dimension in self._space.items():
            dimension.suggest(trial, name)
        return trial

    def report(self, trial: optuna.Trial, epoch: int, monitor: str, figure: float) -> bool:
        """Take note of the figure of an epoch; whether the trial is to end as a bad one.

        Raises:
            InputError: the figure is another one than that of earlier trials.
        """
        if self.monitor not in ("figure", monitor):
            raise InputError(f"trials are compared by their dev {self.monitor}, a setting gave dev {monitor}")
        self._study.set_user_attr("monitor", monitor)
        if epoch not in self._study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            trial.report(figure, epoch)
        return trial.should_prune()

    def end(
        self,
        trial: optuna.Trial,
        state: str,
        seconds: float = 0.0,
        figure: float | None = None,
        loss: float = math.inf,
        note: str = "",
    ) -> Trial:
        """Store what came of a trial, which has then ended."""
        facts = {"state": state, "seconds": round(seconds, 1), "loss": loss, "note": note}
        for name, value in facts.items():
            trial.set_user_attr(name, value)
        if state == "complete":
            self._study.tell(trial, figure)
        else:
            self._study.tell(trial, state=TrialState.FAIL if state == "impossible" else TrialState.PRUNED)
        self.write_csv()
        return self.trials[trial.number]

    def write_csv(self) -> None:
        """Write all trials to `trials.csv`."""
        with atomic_write(self._csv) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trial", "state", self.monitor, "epochs", "seconds", *self._space, "note"])
            for trial in self.trials:
                values = (trial.values.get(name, "") for name in self._space)
                figure = "" if trial.figure is None else f"{trial.figure:.6f}"
                writer.writerow(
                    [trial.number, trial.state, figure, trial.epochs, trial.seconds, *values, trial.note]
                )

    def _read(self, trial: FrozenTrial) -> Trial:
        figures = trial.intermediate_values
        best = max(figures.values(), key=lambda figure: self._sign * figure, default=None)
        notes: Mapping[str, Any] = trial.user_attrs
        return Trial(
            trial.number + 1,
            notes.get("state", "running") if trial.state.is_finished() else "running",
            trial.value if trial.state == TrialState.COMPLETE else best,
            max(figures, default=0),
            notes.get("loss", math.inf),
            notes.get("seconds", 0.0),
            dict(trial.params),
            notes.get("note", ""),
        )


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep what Optuna says of every trial off the terminal while the block runs."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _sampler(kind: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if kind == "random":
        return optuna.samplers.RandomSampler(drawn)
    return optuna.samplers.TPESampler(seed=drawn)


def _pruner(kind: str) -> optuna.pruners.BasePruner:
    if kind == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=_PATIENT_EPOCHS)
    if kind == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=_PATIENT_EPOCHS)
    return optuna.pruners.NopPruner()
