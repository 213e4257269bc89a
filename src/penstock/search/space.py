"""What is searched: a range or choices for each of some options. Free of torch and Optuna."""

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from penstock.errors import InputError
from penstock.training.config import RUN_ONLY, TrainingOptions

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str | None

HOW_TO_RUN = frozenset(
    {*RUN_ONLY, "output", "threads", "device", "processes", "nodes", "workers", "checkpoint_minutes"}
)
"""Options that say how a training runs, not what comes of it."""

_COMMON = {
    "learning_rate": {"low": 5e-4, "high": 1e-2, "log": True},
    "layers": [1, 2],
    "dropout": {"low": 0.0, "high": 0.6, "step": 0.1},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "classify": {
        **_COMMON,
        "hidden_size": {"low": 32, "high": 256, "log": True},
        "pooling": ["last", "mean", "max", "mean+max", "attention"],
        "weight_decay": [0.0, 1e-5, 1e-4],
    },
    "tag": {
        **_COMMON,
        "hidden_size": {"low": 64, "high": 256, "log": True},
        "embedding_dropout": {"low": 0.2, "high": 0.6, "step": 0.1},
        "word_dropout": [0.0, 0.5, 1.0, 2.0],
    },
    "lm": {
        **_COMMON,
        "hidden_size": {"low": 128, "high": 512, "log": True},
        "embedding_size": [64, 128, 256],
        "input_dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
    },
    "forecast": {
        **_COMMON,
        "hidden_size": {"low": 16, "high": 256, "log": True},
        "instance_norm": ["mean", "last"],
        "weight_decay": [0.0, 1e-5, 1e-4],
    },
}
"""What is searched where nothing is said, by task."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them.

    Attributes:
        log: draw the logarithm evenly.
        step: between one number and the next; None for all (whole) numbers.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that the option must take."""
        return (self.low, self.high)

    def suggest(self, trial: "Trial", name: str) -> Value:
        """The value of a trial: chosen now, or what was chosen before."""
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


@dataclass(frozen=True)
class Choices:
    """Some values, in no order."""

    choices: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that the option must take."""
        return self.choices

    def suggest(self, trial: "Trial", name: str) -> Value:
        """The value of a trial: chosen now, or what was chosen before."""
        return trial.suggest_categorical(name, list(self.choices))


Space = dict[str, Range | Choices]


def default_space(task: str, config: TrainingOptions) -> Space:
    """The task's own space, without the options that `config` was given."""
    entries = {name: entry for name, entry in DEFAULTS[task].items() if name not in config.model_fields_set}
    if not entries:
        raise InputError("nothing is left to search: every option of the task's space is given")
    return read_space(config, entries)


def read_space(config: TrainingOptions, entries: Mapping[str, Any]) -> Space:
    """The space that `entries` describe, as `penstock.search.search` takes them.

    Args:
        config: the options that are not searched.
        entries: option name -> range or choices.

    Raises:
        InputError: naming the option, with what was expected and what came.
    """
    if not entries:
        raise InputError("the space: expected at least one option to search, got none")
    space = {name: _dimension(config, name, entry) for name, entry in entries.items()}
    for name, dimension in space.items():
        for value in dimension.ends:
            _check_value(config, name, value)
    return space


def as_dict(dimension: Range | Choices) -> dict[str, Any]:
    """The dimension in values that YAML knows."""
    fields = asdict(dimension)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def _dimension(config: TrainingOptions, name: str, entry: Any) -> Range | Choices:
    _check_name(type(config), name)
    if isinstance(entry, Mapping) and set(entry) == {"choices"}:
        entry = entry["choices"]
    if isinstance(entry, list | tuple):
        return _choices(name, entry)
    if not isinstance(entry, Mapping) or not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        raise InputError(
            f"{name}: expected a list of choices, or low and high (and log or step), got {entry!r}"
        )
    return _range(name, entry, type(config).model_fields[name].annotation)


def _check_name(model: type[TrainingOptions], name: str) -> None:
    if name not in model.model_fields:
        close = difflib.get_close_matches(name, model.model_fields, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"the space: unknown option {name!r}{hint}")
    owner = next(base for base in reversed(model.__mro__) if name in inspect.get_annotations(base))
    if name in HOW_TO_RUN or owner.__name__ == "DataOptions":
        raise InputError(f"{name} cannot be searched: trials are compared on the same data, run the same way")


def _choices(name: str, entry: list[Any] | tuple[Any, ...]) -> Choices:
    if not entry or not all(isinstance(value, Value) for value in entry):
        raise InputError(f"{name}: expected a list of numbers, texts, true or false, got {entry!r}")
    return Choices(tuple(entry))


def _range(name: str, entry: Mapping[str, Any], kind: Any) -> Range:
    whole = int in (kind, *get_args(kind))
    if not whole and float not in (kind, *get_args(kind)):
        raise InputError(
            f"{name}: expected a list of choices, for its values are no numbers, got {dict(entry)!r}"
        )
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{name}: log: expected true or false, got {log!r}")
    given = [key for key in ("low", "high", "step") if entry.get(key) is not None]
    numbers = {key: _number(f"{name}: {key}", entry[key], whole) for key in given}
    found = Range(log=log, whole=whole, **numbers)
    if not found.low < found.high:
        raise InputError(f"{name}: expected low below high, got {found.low} and {found.high}")
    if log and (found.low <= 0 or found.step is not None):
        raise InputError(f"{name}: log needs low above 0 and no step, got {dict(entry)!r}")
    if found.step is not None and found.step <= 0:
        raise InputError(f"{name}: step: expected a number above 0, got {found.step}")
    return found


def _number(where: str, value: Any, whole: bool) -> float:
    try:
        number = float(value)  # YAML has 1e-3 as text
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or (whole and not number.is_integer()):
        raise InputError(f"{where}: expected a {'whole ' if whole else ''}number, got {value!r}")
    return int(number) if whole else number


def _check_value(config: TrainingOptions, name: str, value: Value) -> None:
    """Raise InputError if the option itself does not take the value; whether it fits others is seen later."""
    given = {key: getattr(config, key) for key in config.model_fields_set}
    try:
        type(config).model_validate({**given, name: value})
    except ValidationError as error:
        for mistake in error.errors():
            if mistake["loc"] and mistake["loc"][0] == name:
                raise InputError(f"{name}: {value!r}: {mistake['msg'].lower()}") from None
