"""Where a training run writes: beside its output folder, which it becomes at the end.

A run lives in `OUTPUT.training` (checkpoints, logs, config.yaml) and is renamed to `OUTPUT` once the model in
it is whole. So `OUTPUT` always holds a finished model, the old one or the new one, and a run that was killed
can be resumed. This module imports neither torch nor Lightning.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import filelock
import yaml

from penstock.errors import InputError
from penstock.files import atomic_write, replace_folder
from penstock.training.config import RUN_ONLY, TrainingOptions

# What may change when a run is resumed, besides paths (a file may have moved; its content is compared).
_MAY_CHANGE = {*RUN_ONLY, "threads", "device", "processes", "nodes", "workers"} | {
    "epochs",
    "patience",
    "learning_rate",
    "clip_norm",
    "checkpoint_minutes",
}


class Workspace:
    """The folder of one training run, from its first file to its renaming into place."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.parent / f"{output.name}.training"
        self.checkpoints = self.folder / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.logs = self.folder / "logs"
        self.data = self.folder / "data"
        self._copied: int | None = None  # when the checkpoint that was copied here was written

    @contextlib.contextmanager
    def claim(self, config: TrainingOptions) -> Iterator[Self]:
        """Hold the folder for this run alone: made anew, or taken up again with `config.resume`.

        Raises:
            InputError: OUTPUT holds a model (without overwrite), other files, or an unfinished training (with
                neither resume nor overwrite); there is nothing to resume, or it was trained with other
                options; another process trains into it.
        """
        self._check_output(config)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(f"{self.output}: another training is writing to it") from None
        try:
            self._resume(config) if config.resume else self._start(config)
            with self._swept():
                with atomic_write(self.folder / "config.yaml") as file:
                    file.write(to_yaml(config))
                shutil.rmtree(self.data, ignore_errors=True)  # of a run that was killed
                self.data.mkdir()
                yield self
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def publish(self) -> None:
        """Rename the run's folder to OUTPUT; a model that was there is removed only after that."""
        shutil.rmtree(self.data, ignore_errors=True)
        replace_folder(self.folder, self.output)

    def _check_output(self, config: TrainingOptions) -> None:
        if self.output.exists() and not self.output.is_dir():
            raise InputError(f"{self.output}: expected a folder, got a file")
        if self.output.resolve() in (Path.cwd(), *Path.cwd().parents):
            raise InputError(f"{self.output}: expected another folder than the current one")
        if not self.output.is_dir() or not any(self.output.iterdir()) or config.resume:
            return
        if not (self.output / "config.json").is_file():
            raise InputError(
                f"{self.output}: the folder holds other files and no model; choose another output"
            )
        if not config.overwrite:
            raise InputError(
                f"{self.output}: the folder already holds a model; choose another output, or give "
                "--overwrite to replace it or --resume to train it further"
            )

    def _start(self, config: TrainingOptions) -> None:
        if self.last.exists() and not config.overwrite:
            raise InputError(
                f"{self.folder}: an unfinished training lies here; go on with it (--resume) or discard it "
                "(--overwrite)"
            )
        if self.folder.exists():
            if not (self.folder / "config.yaml").exists():
                raise InputError(f"{self.folder}: the folder for unfinished trainings holds other files")
            shutil.rmtree(self.folder)
        self.checkpoints.mkdir(parents=True)

    def _resume(self, config: TrainingOptions) -> None:
        source = self.folder if self.last.exists() else self.output
        if not (source / "checkpoints" / "last.ckpt").exists():
            raise InputError(f"{self.output}: nothing to resume, no checkpoint was written there")
        _check_same(yaml.safe_load((source / "config.yaml").read_text("utf-8")), config, source)
        if source == self.folder:
            return
        self._start(config)
        for part in ("checkpoints", "logs"):
            shutil.copytree(self.output / part, self.folder / part, dirs_exist_ok=True)
        self._copied = self.last.stat().st_mtime_ns

    @contextlib.contextmanager
    def _swept(self) -> Iterator[None]:
        """Remove the encoded data at the end, and the whole folder if no checkpoint was written to it."""
        try:
            yield
        finally:
            shutil.rmtree(self.data, ignore_errors=True)
            written = self.last.exists() and self.last.stat().st_mtime_ns != self._copied
            if not written:
                shutil.rmtree(self.folder, ignore_errors=True)


def to_yaml(config: TrainingOptions) -> str:
    """The whole configuration, defaults included, in the form that `--config` reads."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def to_dict(config: TrainingOptions) -> dict[str, Any]:
    """The whole configuration, defaults included, in values that JSON and YAML know."""
    return config.model_dump(mode="json", exclude=set(RUN_ONLY))


def stored_config(output: Path) -> Path | None:
    """The configuration that an unfinished or finished training in `output` was started with."""
    workspace = Workspace(output)
    files = (workspace.folder / "config.yaml", workspace.output / "config.yaml")
    return next((file for file in files if file.is_file()), None)


def _check_same(stored: dict[str, Any], config: TrainingOptions, folder: Path) -> None:
    for name, value in to_dict(config).items():
        is_path = isinstance(getattr(config, name), Path)
        if name not in _MAY_CHANGE and not is_path and stored.get(name, value) != value:
            raise InputError(
                f"{folder}: the training to resume has {name}={stored[name]!r}, got {value!r}; "
                "only another training can have that"
            )
