"""A search from its first trial to the best model.

DIR/search.yaml   what is searched: a search goes on only with the same
DIR/study.db      the trials, as Optuna keeps them
DIR/trials.csv    the same as a table
DIR/trials/N      the training of trial N while it runs (N.training), until it is best or removed
DIR/best          the model of the best complete trial so far
"""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import optuna
import yaml
from pydantic import ValidationError

from penstock import tasks
from penstock.errors import DivergedError, InputError
from penstock.files import atomic_write, replace_folder
from penstock.search.options import SearchOptions
from penstock.search.progress import Progress
from penstock.search.space import HOW_TO_RUN, as_dict, default_space, read_space
from penstock.search.study import Study, Trial, quiet_optuna
from penstock.training import fit
from penstock.training.config import TrainingOptions, sentence
from penstock.training.observer import Observer
from penstock.training.report import Report, make_console
from penstock.training.workspace import Workspace, to_dict


@dataclass(frozen=True)
class Result:
    """What came of a search.

    Attributes:
        output: the folder of the best model.
        best: its trial; None if the search was interrupted before one was complete.
        trials: all that have ended.
        report: the figures of the best model, on the test data too; None if the search was interrupted.
    """

    output: Path
    best: Trial | None
    trials: list[Trial]
    report: Report | None

    @property
    def exit_code(self) -> int:
        """130 if the search was interrupted, as shells have it; else 0."""
        return 130 if self.report is None else 0


class _Interrupted(Exception):
    """Ctrl-C or a termination signal."""


class _TimeIsUp(Exception):
    """--timeout is over."""


class Search:
    """One search.

    Args:
        task: a key of `penstock.tasks.TASKS`.
        config: the options that are not searched, and the folder.
        space: as `penstock.search.search` takes it.
        options: how many trials, and how they are chosen.
    """

    def __init__(
        self, task: str, config: TrainingOptions, space: Mapping[str, Any] | None, options: SearchOptions
    ) -> None:
        if task not in tasks.TASKS:
            raise InputError(f"unknown task {task!r}, expected one of {', '.join(tasks.TASKS)}")
        self.task = task
        self.config = tasks.get_job(task).resolve(config)
        self.options = options
        self.folder = config.output
        self.best = config.output / "best"
        self.space = default_space(task, self.config) if space is None else read_space(self.config, space)
        self._ends = float("inf") if options.timeout is None else time.monotonic() + 60 * options.timeout

    def run(self) -> Result:
        """Run the trials that are left, and measure the best model."""
        job = tasks.get_job(self.task)
        with self._claimed(), quiet_optuna():
            study = Study(self.folder, self.space, self.options, self.config.seed, job.lower_is_better)
            with contextlib.closing(study), self._swept(study):
                progress = Progress(make_console(), study, list(self.space), self.options.trials)
                interrupted = self._run_trials(study, progress)
                return self._finish(study, progress, interrupted)

    def _run_trials(self, study: Study, progress: Progress) -> bool:
        """Run trials until all have ended, or there is a reason to stop; whether that was an interruption."""
        self._keep_best(study)
        try:
            with progress:
                while len(study.ended) < self.options.trials:
                    self._check_time()
                    trial = self._run_trial(study, study.next(), progress)
                    self._keep_best(study)
                    progress.ended(trial)
        except _Interrupted:
            return True
        except _TimeIsUp:
            return False
        return False

    def _run_trial(self, study: Study, trial: optuna.Trial, progress: Progress) -> Trial:
        """Train with the values of a trial, from where it was interrupted if it was."""

        def epoch_ended(epoch: int, monitor: str, figure: float) -> None:
            prune = study.report(trial, epoch, monitor, figure)
            progress.update()
            if prune:
                raise optuna.TrialPruned
            self._check_time()

        output = self._output(trial.number + 1)
        try:
            config = self._with(trial.params, output, resume=_can_resume(output))
        except ValidationError as error:
            return study.end(trial, "impossible", note=sentence(error))
        started = time.monotonic()
        progress.update()
        try:
            report = fit(
                tasks.get_job(self.task), config, Observer(quiet=True, test=False, epoch_ended=epoch_ended)
            )
        except optuna.TrialPruned:
            return study.end(trial, "pruned", time.monotonic() - started)
        except DivergedError as error:
            return study.end(trial, "diverged", time.monotonic() - started, note=str(error).split(";")[0])
        if report.interrupted:
            raise _Interrupted
        dev = report.metrics["dev"]
        figure = dev[report.monitor]
        if math.isnan(figure):
            note = f"the dev {report.monitor} is not a number"
            return study.end(trial, "diverged", report.seconds, note=note)
        return study.end(trial, "complete", report.seconds, figure, dev["loss"])

    def _finish(self, study: Study, progress: Progress, interrupted: bool) -> Result:
        """Show the best trials, and measure the best model, which also shows its figures."""
        study.write_csv()
        best, ended = study.best, study.ended
        if best:
            progress.show_best()
        if interrupted:
            return Result(self.best, best, ended, None)
        if best is None:
            why = (
                f"all {len(ended)} trials failed"
                if len(ended) >= self.options.trials
                else "time was up before"
            )
            raise InputError(f"{self.folder}: no trial is complete, {why}; see {self.folder / 'trials.csv'}")
        report = fit(tasks.get_job(self.task), self._with(best.values, self.best, resume=True))
        return Result(self.best, best, ended, report)

    def _check_time(self) -> None:
        if time.monotonic() > self._ends:
            raise _TimeIsUp

    def _output(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def _with(self, values: Mapping[str, Any], output: Path, resume: bool) -> TrainingOptions:
        """The configuration of a trial."""
        given = {name: getattr(self.config, name) for name in self.config.model_fields_set}
        changes = {**values, "output": output, "resume": resume, "overwrite": False}
        return type(self.config).model_validate({**given, **changes})

    def _keep_best(self, study: Study) -> None:
        """Let the model of the best trial be `best`, and remove those of all others that have ended."""
        best = study.best
        for trial in study.ended:
            output = self._output(trial.number)
            if best and trial.number == best.number and output.exists():
                shutil.rmtree(Workspace(self.best).folder, ignore_errors=True)
                replace_folder(output, self.best)
            for folder in (output, Workspace(output).folder):
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the folder for this search alone.

        Raises:
            InputError: it holds something else, or another search; or another process searches there.
        """
        search = self.folder / "search.yaml"
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: expected a folder, got a file")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not search.is_file():
            raise InputError(
                f"{self.folder}: the folder holds other files and no search; choose another output"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder.with_name(f".{self.folder.name}.search.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(f"{self.folder}: another search is writing to it") from None
        try:
            if self.config.overwrite:
                self._discard()
            self._check_same(search)
            yield
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def _discard(self) -> None:
        """Remove the search that lies in the folder; its best model stays until there is a new one."""
        shutil.rmtree(self.folder / "trials", ignore_errors=True)
        for name in ("study.db", "trials.csv", "search.yaml"):
            (self.folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _swept(self, study: Study) -> Iterator[None]:
        """Remove the folder of trials when it is empty, and the whole search if nothing has come of it."""
        folder = self.folder / "trials"
        try:
            yield
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            if not study.ended and not folder.exists() and not self.best.exists():
                shutil.rmtree(self.folder)

    def _check_same(self, path: Path) -> None:
        """Raise InputError if `path` describes another search; write it if it is not there."""
        config = to_dict(self.config)
        wanted = {
            "task": self.task,
            "sampler": self.options.sampler,
            "pruner": self.options.pruner,
            "space": {name: as_dict(dimension) for name, dimension in self.space.items()},
            **{name: config[name] for name in config if name not in {*HOW_TO_RUN, *self.space}},
        }
        if not path.exists():
            with atomic_write(path) as file:
                file.write(yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))
            return
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name in {**wanted, **found}:
            there, here = found.get(name), wanted.get(name)
            if there != here:
                raise InputError(
                    f"{self.folder}: the search there has {name} {there!r}, got {here!r}; choose another "
                    "output, or give --overwrite to begin anew"
                )


def _can_resume(output: Path) -> bool:
    """Whether an interrupted trial has a checkpoint; what it left otherwise is removed."""
    folders = (Workspace(output).folder, output)
    if any((folder / "checkpoints" / "last.ckpt").is_file() for folder in folders):
        return True
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return False
