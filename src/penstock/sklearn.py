"""The tasks as scikit-learn estimators: `from penstock.sklearn import TextClassifier`; the extra `sklearn`.

Each has the options of `penstock train TASK` as parameters and trains through the same code, on files in a
temporary folder. A fitted estimator holds the files of its model, so that it can be pickled, and `save(DIR)`
writes them as an ordinary model folder. What the estimator does itself is no parameter: files and columns.
"""

import abc
import inspect
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from penstock import tasks
from penstock.errors import InputError
from penstock.files import atomic_folder
from penstock.tasks.classify.config import SeriesOptions, TextOptions
from penstock.training import fit
from penstock.training.config import RUN_ONLY, validated
from penstock.training.observer import Observer

__all__ = ["Forecaster", "LanguageModel", "SeriesClassifier", "Tagger", "TextClassifier"]

_OURS = frozenset({*RUN_ONLY, "data", "dev", "test", "output"})
"""Options of a training that the estimator gives."""
_TRAINING_ONLY = ("checkpoints", "logs")
"""What a model folder has besides the model."""

Kind = TypeVar("Kind", bound="type[_Estimator]")


def _options(task: str, without: Iterable[str | type[BaseModel]] = ()) -> Callable[[Kind], Kind]:
    """Give a class the options of a task as parameters of its constructor, but those in `without`.

    scikit-learn learns the names of parameters from the constructor's signature.
    """
    model = tasks.get_config(task).Config
    groups = [item for item in without if not isinstance(item, str)]
    left_out = {*_OURS, *without}.union(*(group.model_fields for group in groups))
    fields = {name: field for name, field in model.model_fields.items() if name not in left_out}
    defaults = {name: _immutable(field.default) for name, field in fields.items()} | {"verbose": False}

    def init(self: Any, **options: Any) -> None:
        for name in options:
            if name not in defaults:
                raise TypeError(f"{type(self).__name__}: unknown parameter {name!r}")
        for name, default in defaults.items():
            setattr(self, name, options.get(name, default))

    def decorate(kind: Kind) -> Kind:
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in defaults.items()
        ]
        signature = inspect.Signature([own, *parameters])
        init.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        init.__qualname__ = f"{kind.__qualname__}.__init__"
        kind.__init__ = init
        kind._task = task
        kind._defaults = defaults
        lines = [
            f"        {name}: {field.description} ({defaults[name]!r})" for name, field in fields.items()
        ]
        lines.append("        verbose: show the training on standard output (False)")
        kind.__doc__ = f"{(kind.__doc__ or '').rstrip()}\n\n    Args:\n" + "\n".join(lines) + "\n"
        return kind

    return decorate


def _immutable(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default


class _Estimator(BaseEstimator):
    """What the estimators share: training on files, and a model held as the bytes of its folder.

    Attributes:
        model_: file name -> content of the model folder.
        metrics_: figures on the dev data, which decided which epoch is best.
        monitor_: the one of them that did.
        n_iter_: epochs.
    """

    _task: ClassVar[str]
    _defaults: ClassVar[dict[str, Any]]
    verbose: bool
    device: str
    threads: int | None

    if TYPE_CHECKING:  # `_options` writes it

        def __init__(self, **options: Any) -> None: ...

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Write the fitted model as a folder for `penstock.load` and the command line.

        Raises:
            InputError: the folder holds something, and `overwrite` is false.
        """
        check_is_fitted(self)
        with atomic_folder(folder, overwrite) as partial:
            self._write_model(partial)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    def _train(self, write: Callable[[Path], Mapping[str, Any]]) -> Self:
        """Train on the files that `write` puts into a folder; it returns the options that name them.

        Parameters that are the defaults count as not given: some options take them over from another model.
        """
        model = tasks.get_config(self._task).Config
        parameters = self.get_params(deep=False)
        chosen = {
            name: value
            for name, value in parameters.items()
            if name != "verbose" and value != self._defaults[name]
        }
        with TemporaryDirectory(prefix="penstock-") as name:
            folder = Path(name)
            output = folder / "model"
            config = validated(model, {**chosen, **write(folder), "output": output})
            report = fit(tasks.get_job(self._task), config, Observer(quiet=not self.verbose))
            if report.interrupted:
                raise KeyboardInterrupt
            for part in _TRAINING_ONLY:
                shutil.rmtree(output / part)
            self.model_ = {path.name: path.read_bytes() for path in sorted(output.iterdir())}
        self.metrics_ = report.metrics["dev"]
        self.monitor_ = report.monitor
        self.n_iter_ = report.epochs
        vars(self).pop("_loaded", None)
        return self

    def _write_model(self, folder: Path) -> None:
        for name, content in self.model_.items():
            (folder / name).write_bytes(content)

    @property
    def _predictor(self) -> Any:
        """The model at work; it is loaded once, and again after unpickling."""
        check_is_fitted(self)
        if "_loaded" not in vars(self):
            with TemporaryDirectory(prefix="penstock-") as name:
                self._write_model(Path(name))
                self._loaded = tasks.get(self._task).load(name, device=self.device, threads=self.threads)
        return self._loaded


class _Classifier(ClassifierMixin, _Estimator, abc.ABC):
    """What classifiers of texts and of series share."""

    classes_: NDArray[Any]

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest label of each of N inputs, (N,)."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the labels, (N, C), in the order of `classes_`."""
        check_is_fitted(self)
        answers = self._predictor.predict(self._inputs(X))
        names = [str(label) for label in self.classes_]
        found = np.array([[answer["probabilities"][name] for name in names] for answer in answers], float)
        return found.reshape(-1, len(names)) / found.reshape(-1, len(names)).sum(1, keepdims=True)

    @abc.abstractmethod
    def _inputs(self, X: Any) -> list[Any]:
        """What the predictor takes, from what the user gave."""

    def _labels(self, inputs: Sequence[Any], y: ArrayLike) -> list[str]:
        """The labels as text, one for each input."""
        labels = np.asarray(y).ravel()
        _check_lengths(len(inputs), len(labels))
        return [str(label) for label in labels.tolist()]

    def _fit(self, X: Any, y: ArrayLike, dev: Any, write: Callable[..., Path], **columns: Any) -> Self:
        self.classes_ = np.unique(np.asarray(y).ravel())
        if len({str(label) for label in self.classes_}) < len(self.classes_):
            raise ValueError(f"y: expected labels that differ as text, got {self.classes_.tolist()}")

        def files(folder: Path) -> dict[str, Any]:
            parts = {"data": (X, y)} | ({} if dev is None else {"dev": dev})
            found: dict[str, Any] = {}
            for part, (examples, answers) in parts.items():
                inputs = self._inputs(examples)
                found[part] = write(folder, part, inputs, self._labels(inputs, answers))
            return {**found, **columns, "label": "label"}

        return self._train(files)


@_options("classify", without=["text", "label", SeriesOptions])
class TextClassifier(_Classifier):
    """One label for a text; what `penstock train classify --text` trains."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def fit(self, X: Iterable[str], y: ArrayLike, dev: tuple[Iterable[str], ArrayLike] | None = None) -> Self:
        """Train.

        Args:
            X: N texts: a list, an array or a column of a data frame.
            y: their labels (N,), of any kind.
            dev: texts and labels that decide which epoch is best; `dev_fraction` of X if not given.

        Raises:
            InputError: an option is wrong, or the data are too few.
        """
        return self._fit(X, y, dev, _write_texts, text="text")

    def _inputs(self, X: Any) -> list[str]:
        return _texts(X)


@_options("classify", without=["label", "init_from", TextOptions, SeriesOptions])
class SeriesClassifier(_Classifier):
    """One label for a series of numbers; what `penstock train classify --id` trains."""

    def fit(self, X: Any, y: ArrayLike, dev: tuple[Any, ArrayLike] | None = None) -> Self:
        """Train.

        Args:
            X: N series: arrays (T, D), or (T,) of one channel, of any lengths; or one array (N, T, D).
            y: their labels (N,), of any kind.
            dev: series and labels that decide which epoch is best; `dev_fraction` of X if not given.

        Raises:
            InputError: an option is wrong, or the data are too few.
        """
        return self._fit(X, y, dev, _write_series, id="id")

    def _inputs(self, X: Any) -> list[NDArray[np.float32]]:
        found = [np.asarray(series, np.float32) for series in X]
        for number, series in enumerate(found):
            if series.ndim not in (1, 2) or not len(series):
                raise ValueError(f"X[{number}]: expected an array (T, D) or (T,), got shape {series.shape}")
        found = [series[:, None] if series.ndim == 1 else series for series in found]
        if len(widths := {series.shape[1] for series in found}) > 1:
            raise ValueError(f"X: expected series of the same number of channels, got {sorted(widths)}")
        return found


@_options("tag", without=["token_column", "column"])
class Tagger(_Estimator):
    """One label for every token of a sentence; what `penstock train tag` trains."""

    def fit(
        self,
        X: Iterable[Sequence[str]],
        y: Iterable[Sequence[str]],
        dev: tuple[Iterable[Sequence[str]], Iterable[Sequence[str]]] | None = None,
    ) -> Self:
        """Train.

        Args:
            X: N sentences, each a list of tokens.
            y: their tags, a list for each.
            dev: sentences and tags that decide which epoch is best; `dev_fraction` of X if not given.

        Raises:
            InputError: an option is wrong, or the data are too few.
        """
        parts = {"data": (X, y)} | ({} if dev is None else {"dev": dev})
        return self._train(
            lambda folder: {part: _write_tags(folder, part, *pair) for part, pair in parts.items()}
        )

    def predict(self, X: Iterable[Sequence[str]]) -> list[list[str]]:
        """The tags of every sentence."""
        return [answer["tags"] for answer in self._predictor.predict([list(tokens) for tokens in X])]

    def score(self, X: Iterable[Sequence[str]], y: Iterable[Sequence[str]]) -> float:
        """F1 of spans where tags mark spans, else accuracy of tags."""
        truth, found = [list(tags) for tags in y], self.predict(X)
        _check_lengths(len(found), len(truth))
        if self.monitor_ == "f1":
            from seqeval.metrics import f1_score  # noqa: PLC0415  (slow to import)

            return float(f1_score(truth, found))  # pyright: ignore[reportArgumentType]  (no list by average)
        return float(accuracy_score(*([tag for tags in part for tag in tags] for part in (truth, found))))


@_options("lm", without=["test_fraction", "text"])
class LanguageModel(_Estimator):
    """The next character, word or piece of a text; what `penstock train lm` trains."""

    def fit(self, X: Iterable[str], y: None = None, dev: Iterable[str] | None = None) -> Self:
        """Train.

        Args:
            X: texts, read one after the other, each beginning on a new line.
            y: not used.
            dev: texts that decide which epoch is best; the end of X if not given.

        Raises:
            InputError: an option is wrong, or the text is too short.
        """
        parts = {"data": X} | ({} if dev is None else {"dev": dev})
        return self._train(
            lambda folder: {part: _write_lines(folder, part, texts) for part, texts in parts.items()}
        )

    def predict(self, X: Iterable[str], **options: Any) -> list[str]:
        """What follows each beginning.

        Args:
            X: beginnings; "" for a text from its start.
            options: length (tokens, 200), temperature (1.0), top_k (0), top_p (1.0), seed (1), stop (None).
        """
        return [answer["text"] for answer in self._predictor.predict(_texts(X), **options)]

    def score_samples(self, X: Iterable[str]) -> NDArray[np.float64]:
        """Log probability (nats) of each of N texts, (N,)."""
        return np.array([sum(values) for values in self._log_probabilities(X)], float)

    def score(self, X: Iterable[str], y: None = None) -> float:
        """Mean log probability (nats) of a token; the logarithm of the perplexity with the other sign."""
        return float(np.mean([value for values in self._log_probabilities(X) for value in values]))

    def _log_probabilities(self, X: Iterable[str]) -> list[list[float]]:
        return [[value for _, value in self._predictor.score(text)] for text in _texts(X)]


@_options("forecast", without=["header", "train_steps", "test_steps", "test_fraction", "classical"])
class Forecaster(_Estimator):
    """The coming values of series; what `penstock train forecast` trains."""

    loss: str

    def fit(self, X: Any, y: None = None) -> Self:
        """Train; the last `dev_fraction` of every series decides which epoch is best.

        Args:
            X: an array (T, N) of N series or (T,) of one; a data frame or a mapping with a column a series,
                and a column or an index of time stamps if there are any; or a long table, see `id_column`.
            y: not used.

        Raises:
            InputError: an option is wrong, or the series are too short.
        """
        return self._train(
            lambda folder: {"data": _write_table(folder, X), "header": None, "test_fraction": 0.0}
        )

    def predict(self, X: Any = None) -> NDArray[np.float64]:
        """The steps that follow a table like that of `fit`, or, without one, those that follow that of `fit`.

        Returns:
            (H, N): the horizon's steps of N series; of a long table, in the order in which they first appear.
        """
        return self._forecasts(X, ["forecast"])[..., 0]

    def predict_quantiles(self, X: Any = None) -> NDArray[np.float64]:
        """The same for every one of Q `quantiles`, (H, N, Q).

        Raises:
            InputError: the model was trained without, with another `loss`.
        """
        if not self._predictor.quantiles:
            raise InputError(
                f"predict_quantiles: expected a loss that gives quantiles, got loss={self.loss!r}"
            )
        return self._forecasts(X, [f"q{quantile:g}" for quantile in self._predictor.quantiles])

    def score(self, X: Any, y: None = None) -> float:
        """The figure that decided in training (a loss) of all forecasts in a table, with the other sign."""
        with TemporaryDirectory(prefix="penstock-") as name:
            options = tasks.get_config(self._task).EvaluateOptions(
                data=_write_table(Path(name), X), classical=0
            )
            return -self._predictor.evaluate(options)["metrics"][self.monitor_]

    def _forecasts(self, X: Any, names: list[str]) -> NDArray[np.float64]:
        rows = self._predictor.predict(None if X is None else _table(X))
        found = np.array([[row[name] for name in names] for row in rows])
        return found.reshape(-1, self._predictor.horizon, len(names)).swapaxes(0, 1)


# --- what the estimators are given, as files ---


def _check_lengths(expected: int, found: int) -> None:
    if expected != found:
        raise ValueError(f"y: expected one entry for each of the {expected} of X, got {found}")


def _texts(X: Any) -> list[str]:
    if isinstance(X, str):
        raise TypeError("X: expected a list of texts, got one text; put it in a list")
    texts = list(np.asarray(X, object).ravel()) if hasattr(X, "__array__") else list(X)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"X[{number}]: expected a text, got {type(text).__name__}")
    return texts


def _write_texts(folder: Path, part: str, texts: list[str], labels: list[str]) -> Path:
    path = folder / f"{part}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for text, label in zip(texts, labels, strict=True):
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    return path


def _write_series(folder: Path, part: str, series: list[NDArray[np.float32]], labels: list[str]) -> Path:
    """A long table, one row a step."""
    lengths = [len(one) for one in series]
    columns = {
        "id": np.repeat(np.arange(len(series)), lengths),
        "label": np.repeat(np.array(labels), lengths),
        **{f"channel {d}": values for d, values in enumerate(np.concatenate(series).T, 1)},
    }
    return _write_parquet(folder / f"{part}.parquet", columns)


def _write_tags(folder: Path, part: str, X: Iterable[Sequence[str]], y: Iterable[Sequence[str]]) -> Path:
    """A column file, one token a line; sentences without tokens are left out."""
    sentences, tags = [list(tokens) for tokens in X], [list(labels) for labels in y]
    _check_lengths(len(sentences), len(tags))
    path = folder / f"{part}.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, pair in enumerate(zip(sentences, tags, strict=True)):
            if len(pair[0]) != len(pair[1]):
                raise ValueError(
                    f"y[{number}]: expected {len(pair[0])} tags, one a token, got {len(pair[1])}"
                )
            for token, tag in zip(*pair, strict=True):
                file.write(f"{_cell(token, f'X[{number}]')}\t{_cell(tag, f'y[{number}]')}\n")
            file.write("\n" if pair[0] else "")
    return path


def _cell(text: Any, where: str) -> str:
    if not isinstance(text, str) or not text.strip() or any(end in text for end in "\t\n\r"):
        raise ValueError(
            f"{where}: expected a text that is not empty, without tab and end of line, got {text!r}"
        )
    return text


def _write_lines(folder: Path, part: str, texts: Iterable[str]) -> Path:
    path = folder / f"{part}.txt"
    with path.open("w", encoding="utf-8", newline="") as file:
        for text in _texts(texts):
            file.write(text if text.endswith("\n") else text + "\n")
    return path


def _write_table(folder: Path, X: Any) -> Path:
    return _write_parquet(folder / "data.parquet", _table(X))


def _table(X: Any) -> dict[str, Any]:
    """Column name -> values; an index of time stamps becomes a column."""
    if isinstance(X, Mapping):
        return {str(name): list(values) for name, values in X.items()}
    if hasattr(X, "to_frame") and not hasattr(X, "columns"):  # a column of a data frame
        X = X.to_frame(name=str(X.name or 1))
    if hasattr(X, "columns"):
        dated = hasattr(getattr(X, "index", None), "to_pydatetime")
        time = {"time": [str(stamp) for stamp in X.index]} if dated else {}
        return time | {str(name): [_plain(value) for value in X[name]] for name in X.columns}
    values = np.asarray(X, float)
    if values.ndim not in (1, 2):
        raise ValueError(f"X: expected an array (T, N) or (T,), got shape {values.shape}")
    return {str(n): column.tolist() for n, column in enumerate(np.atleast_2d(values.T), 1)}


def _plain(value: Any) -> Any:
    """A cell of a data frame as numbers and text: time stamps are text in files."""
    return str(value) if hasattr(value, "isoformat") else value


def _write_parquet(path: Path, columns: Mapping[str, Any]) -> Path:
    import pyarrow  # noqa: PLC0415  (slow to import)
    import pyarrow.parquet  # noqa: PLC0415

    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path)
    return path
