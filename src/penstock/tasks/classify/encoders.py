"""From what a user has, texts or series of numbers, to the rows that the model reads."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penstock.data.series import Scaler, SeriesColumns, read_series, series_columns
from penstock.data.table import is_table, read_rows
from penstock.data.text import cut, encode_batch, load_tokenizer, save_tokenizer, train_tokenizer
from penstock.data.vocabulary import UNKNOWN_ID
from penstock.errors import InputError
from penstock.tasks.classify.config import Columns, Config
from penstock.tasks.lm import codec as lm_codec
from penstock.tasks.lm.codec import Codec
from penstock.tasks.pretrained import Pretrained

_UNKNOWN = np.array([UNKNOWN_ID], np.int32)  # a text without tokens


class Item(NamedTuple):
    """One example of a file.

    Attributes:
        input: a text, or a series float32 (T, D).
        label: None where none was asked for.
        line: where it begins in the file.
        id: of a series; None for a text.
    """

    input: Any
    label: str | None
    line: int
    id: str | None = None


class TextEncoder:
    """Texts to token ids.

    Args:
        config: the column, and how texts are taken apart and cut.
        tokenizer: None before `fit`.
    """

    kind = "text"
    files = ("tokenizer.json",)
    dtype = np.dtype(np.int32)
    width = None

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None) -> None:
        self.config = config
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, assets: Mapping[str, str], config: Config, source: Path) -> Self:
        """The encoder whose `assets` these are; `source` is their folder, for errors."""
        return cls(config, load_tokenizer(assets["tokenizer.json"], str(source / "tokenizer.json")))

    @property
    def tokenizer(self) -> Tokenizer:
        assert self._tokenizer is not None, "fit or load comes first"
        return self._tokenizer

    @property
    def input_size(self) -> int:
        """Different tokens."""
        return self.tokenizer.get_vocab_size()

    def read(self, path: Path, label: str | None, columns: Columns | None = None) -> Iterator[Item]:
        """The texts of a table, with the labels of column `label`; `columns` rename that of the text."""
        text = (columns and columns.text) or self.config.text
        assert text is not None
        for line, values in read_rows(
            path, [text, label] if label else [text], nonempty=[label] if label else []
        ):
            yield Item(values[text], values[label] if label else None, line)

    def fit(self, inputs: Iterable[str]) -> None:
        """Learn the vocabulary from the training texts."""
        config = self.config
        self._tokenizer = train_tokenizer(
            inputs, config.tokenizer, config.vocabulary, config.lowercase, config.min_frequency
        )

    def encode(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids, int32 (n,) each."""
        return encode_batch(self.tokenizer, inputs, self.config.max_length, self.config.keep)

    def assets(self) -> dict[str, str]:
        """File name -> text of what `load` needs."""
        return {"tokenizer.json": save_tokenizer(self.tokenizer)}

    def tokens(self) -> list[str]:
        """The tokens in the order of their ids."""
        ids = self.tokenizer.get_vocab()
        return sorted(ids, key=ids.__getitem__)


class LanguageEncoder(TextEncoder):
    """Texts to the token ids of the language model that the classifier starts from.

    Args:
        config: the column, and how texts are cut.
        codec: of the language model.
    """

    kind = "language"
    files = ()

    def __init__(self, config: Config, codec: Codec) -> None:
        super().__init__(config)
        self.codec = codec

    @classmethod
    def load(cls, assets: Mapping[str, str], config: Config, source: Path) -> Self:
        return cls(config, lm_codec.load(config.tokenizer, assets, source))

    @property
    def input_size(self) -> int:
        return len(self.codec)

    def fit(self, inputs: Iterable[str]) -> None:
        """Nothing: the vocabulary is there."""

    def encode(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        rows = (self.codec.encode(text).astype(np.int32) for text in inputs)
        return [cut(row if len(row) else _UNKNOWN, self.config.max_length, self.config.keep) for row in rows]

    def assets(self) -> dict[str, str]:
        return self.codec.assets()


class SeriesEncoder:
    """Series of numbers to standardised series.

    Args:
        columns: which columns of a table are what.
        scaler: None before `fit`.
    """

    kind = "series"
    files = ("columns.json", "scaler.json")
    dtype = np.dtype(np.float32)

    def __init__(self, columns: SeriesColumns, scaler: Scaler | None = None) -> None:
        self.columns = columns
        self._scaler = scaler

    @classmethod
    def plan(cls, config: Config) -> Self:
        """An encoder for the columns that `config` names, or that the training file has."""
        columns = series_columns(config.data, config.id or "id", config.time, config.label, config.values)
        return cls(columns)

    @classmethod
    def load(cls, assets: Mapping[str, str], config: Config, source: Path) -> Self:
        """The encoder whose `assets` these are; `source` is their folder, for errors."""
        try:
            fields = json.loads(assets["columns.json"])
            columns = SeriesColumns(fields["id"], fields["time"], fields["label"], tuple(fields["values"]))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{source / 'columns.json'}: expected the columns of series ({error})") from None
        scaler = Scaler.from_json(assets["scaler.json"], str(source / "scaler.json"))
        if len(scaler.mean) != len(columns.values):
            raise InputError(
                f"{source / 'scaler.json'}: expected {len(columns.values)} channels as in columns.json, "
                f"got {len(scaler.mean)}"
            )
        return cls(columns, scaler)

    @property
    def input_size(self) -> int:
        """D, the channels."""
        return len(self.columns.values)

    width = input_size

    def read(self, path: Path, label: str | None, columns: Columns | None = None) -> Iterator[Item]:
        """The series of a file, with the labels of column `label`; `columns` rename those of id and time."""
        renamed = {name: value for name in ("id", "time") if (value := columns and getattr(columns, name))}
        wanted = replace(self.columns, label=label, **renamed)
        return (
            Item(series.values, series.label, series.line, series.id) for series in read_series(path, wanted)
        )

    def fit(self, inputs: Iterable[NDArray[np.float32]]) -> None:
        """Learn mean and standard deviation of every channel from the training series."""
        self._scaler = Scaler.fit(inputs)

    def encode(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Standardised series, float32 (T, D) each.

        Raises:
            InputError: a series of another shape, or with a value that is not finite.
        """
        assert self._scaler is not None, "fit or load comes first"
        for number, series in enumerate(inputs, 1):
            shape = np.shape(series)
            if len(shape) != 2 or shape[1] != self.input_size or not shape[0]:
                raise InputError(f"series {number}: expected shape (steps, {self.input_size}), got {shape}")
            if not np.isfinite(series).all():
                raise InputError(f"series {number}: expected finite numbers, got NaN or infinity")
        return [self._scaler.transform(np.asarray(series, np.float32)) for series in inputs]

    def assets(self) -> dict[str, str]:
        """File name -> text of what `load` needs."""
        assert self._scaler is not None, "fit or load comes first"
        columns = json.dumps(asdict(self.columns), indent=2, ensure_ascii=False) + "\n"
        return {"scaler.json": self._scaler.to_json(), "columns.json": columns}


Encoder = TextEncoder | SeriesEncoder
_KINDS: dict[str, type[Encoder]] = {
    encoder.kind: encoder for encoder in (TextEncoder, LanguageEncoder, SeriesEncoder)
}


def plan(config: Config) -> Encoder:
    """The encoder for the training data, not fitted yet.

    Raises:
        InputError: the options do not say what the data are.
    """
    if config.text and (config.id or config.values):
        raise InputError(
            "--text is for texts, --id and --values for series of numbers; give one or the other"
        )
    if config.init_from and not config.text:
        raise InputError(f"--init-from {config.init_from}: a language model is for texts; give --text COLUMN")
    if config.init_from:
        return LanguageEncoder(config, Pretrained(config.init_from).codec)
    if config.text:
        return TextEncoder(config)
    if not config.id and is_table(config.data):
        raise InputError(
            f"{config.data}: give --text COLUMN for a table of texts, or --id COLUMN for a table of series"
        )
    return SeriesEncoder.plan(config)


def load(kind: str, assets: Mapping[str, str], config: Config, source: Path) -> Encoder:
    """The fitted encoder of a prepared or saved run.

    Raises:
        InputError: there is no such kind, or an asset is missing or damaged.
    """
    if kind not in _KINDS:
        raise InputError(f"{source / 'config.json'}: expected a kind of {', '.join(_KINDS)}, got {kind!r}")
    encoder = _KINDS[kind]
    for name in (*encoder.files, "labels.json"):
        if name not in assets:
            raise InputError(f"{source / 'config.json'}: 'assets' lacks {name}, which a classifier needs")
    return encoder.load(assets, config, source)
