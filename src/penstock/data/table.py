"""Tables: the wanted columns of a csv, tsv, jsonl or Parquet file, each also gzipped, row by row as text."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.data.lines import DAMAGED, open_bytes, place, read_lines
from penstock.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
# The csv module refuses fields above 131,072 characters unless told otherwise; a limit still stops a quote
# that is never closed from swallowing a large file into memory.
_LONGEST_FIELD = 1 << 27
# Of a Parquet file so much is decoded and read at a time; else it is a row group, often the whole file.
_PARQUET_ROWS = 1024
_PARQUET_BYTES = 1 << 20


class Row(NamedTuple):
    """One row: where it begins (line number, or row number for Parquet; from 1) and its values by column."""

    line: int
    values: dict[str, str]


def read_rows(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    nonempty: Collection[str] = (),
    nulls: Collection[str] = (),
) -> Iterator[Row]:
    """Yield the rows of a table, with only the wanted columns, as text. The file is never held in memory.

    The suffix tells the format, and `.gz` may follow it:

    - `.csv`: a header; comma; fields in double quotes may hold commas, line breaks and doubled quotes.
    - `.tsv`: a header; tab. A quote is an ordinary character, except where a field both begins and ends with
      one and those inside are doubled, as csv writers do; so no field can hold a tab or a line break.
    - `.jsonl`, `.ndjson`: an object a line; numbers and booleans become text as in JSON.
    - `.parquet`: scalars of any kind; booleans become "true" and "false".

    Args:
        path: the file.
        columns: the names wanted.
        nonempty: those among them in which an empty value is an error.
        nulls: those among them in which a null (of JSON or Parquet) is no error but empty text.

    Raises:
        InputError: a missing or damaged file, an unknown suffix, a table without rows, a missing column, a
            row of another number of columns than the header, a quote never closed, a line that is not a JSON
            object, or a null; naming file and line.
    """
    path = Path(path)
    format = _format(path)
    if format == "jsonl":
        rows = _json_rows(path, columns, nulls)
    elif format == "parquet":
        rows = _parquet_rows(path, columns, nulls)
    else:
        rows = _delimited_rows(path, columns)
    row = None
    for row in rows:
        for name in nonempty:
            if not row.values[name].strip():
                raise InputError(f"{place(path, row.line)}: the column {name!r} is empty")
        yield row
    if row is None:
        raise InputError(f"{path}: expected rows, got none")


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """The columns of a table: the header of csv and tsv, the first JSON object's keys, the Parquet schema.

    Raises:
        InputError: a missing, damaged or empty file, or an unknown suffix.
    """
    path = Path(path)
    format = _format(path)
    if format == "parquet":
        with _open_parquet(path) as file:
            return list(file.schema_arrow.names)
    records = _objects(path) if format == "jsonl" else _records(path)
    for _, record in records:
        return list(record)
    raise InputError(f"{path}: expected rows, got none")


def delimited_records(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Each record of a csv or tsv file, a header among them, with the line it begins on.

    Empty lines are skipped. A name ending in `.txt` is read as csv.

    Raises:
        InputError: a missing or damaged file, or a quote never closed; naming file and line.
    """
    path = Path(path)
    return _csv_records(path) if _suffix(path) == ".txt" else _records(path)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether the file's suffix is one that `read_rows` reads."""
    return _suffix(Path(path)) in _FORMATS


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _format(path: Path) -> str:
    if not is_table(path):
        raise InputError(
            f"{path}: expected a table whose name ends in {', '.join(_FORMATS)} (or these and .gz)"
        )
    return _FORMATS[_suffix(path)]


def _check_columns(path: Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    for name in wanted:
        if name not in present:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(map(repr, present))}")
        if list(present).count(name) > 1:
            raise InputError(f"{path}: the column {name!r} appears more than once in the header")


# --- csv and tsv ---


def _delimited_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    header: list[str] = []
    places: list[tuple[str, int]] = []
    for line, record in _records(path):
        if not header:
            header = record
            _check_columns(path, columns, header)
            places = [(name, header.index(name)) for name in columns]
        elif len(record) != len(header):
            raise InputError(
                f"{path}, line {line}: expected {len(header)} columns as in the header, got {len(record)}"
            )
        else:
            yield Row(line, {name: record[i] for name, i in places})


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record of a csv or tsv file with the line it begins on; empty lines are skipped."""
    if _format(path) == "csv":
        return _csv_records(path)
    return (
        (number, [_unquoted(field) for field in line.split("\t")])
        for number, line in read_lines(path)
        if line
    )


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    reader = csv.reader((line for _, line in read_lines(path, keep_ends=True)), strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        never_closed = "unexpected end of data" in str(error)
        what = "a quote opened in this row is never closed" if never_closed else f"not valid csv ({error})"
        raise InputError(f"{path}, line {line}: {what}") from None


def _unquoted(field: str) -> str:
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        return field
    inner = field[1:-1]
    bare = inner.replace('""', "")
    return field if '"' in bare else inner.replace('""', '"')


# --- jsonl ---


def _json_rows(path: Path, columns: Sequence[str], nulls: Collection[str]) -> Iterator[Row]:
    for line, values in _objects(path):
        where = place(path, line)
        for name in columns:
            if name not in values:
                raise InputError(f"{where}: no key {name!r}; the keys are {', '.join(map(repr, values))}")
        yield Row(line, {name: _text(values[name], name, where, name in nulls) for name in columns})


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise InputError(f"{path}, line {number}: expected a JSON object, got {line.strip()[:40]}")
        yield number, value


def _text(value: Any, name: str, where: str, nullable: bool) -> str:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{where}: the column {name!r} holds half a character (an unpaired surrogate)")
        return value
    if value is None and nullable:
        return ""
    if value is None:
        raise InputError(f"{where}: the column {name!r} is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: the column {name!r} is not UTF-8") from None
    if isinstance(value, dict | list):
        raise InputError(
            f"{where}: the column {name!r} holds a {type(value).__name__}; expected text or a number"
        )
    return str(value)


# --- Parquet ---


def _parquet_rows(path: Path, columns: Sequence[str], nulls: Collection[str]) -> Iterator[Row]:
    import pyarrow  # noqa: PLC0415 - slow to import, needed by one format

    number = 0
    with _open_parquet(path) as file:
        _check_columns(path, columns, file.schema_arrow.names)
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=list(columns)):
                for values in batch.to_pylist():
                    number += 1
                    where = place(path, number)
                    row = {name: _text(values[name], name, where, name in nulls) for name in columns}
                    yield Row(number, row)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path}, row {number + 1}: the Parquet file is damaged ({error})") from None


@contextlib.contextmanager
def _open_parquet(path: Path) -> Iterator["pyarrow.parquet.ParquetFile"]:
    import pyarrow.parquet  # noqa: PLC0415 - slow to import, needed by one format

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_bytes(path))
        if path.suffix.lower() == ".gz":  # Parquet is read from its end, gzip from its beginning
            plain = stack.enter_context(tempfile.TemporaryFile())
            try:
                shutil.copyfileobj(file, plain)
            except DAMAGED as error:
                raise InputError(f"{path}: the .gz file is truncated or damaged ({error})") from None
            file = plain
        try:
            parquet = stack.enter_context(
                pyarrow.parquet.ParquetFile(file, buffer_size=_PARQUET_BYTES, pre_buffer=False)
            )
        except pyarrow.ArrowException as error:
            raise InputError(f"{path}: not a Parquet file, or a truncated one ({error})") from None
        yield parquet
