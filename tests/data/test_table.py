"""Tables in every format: the same rows from each, one sentence for each mistake, and flat memory."""

import csv
import gzip
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from penstock.data.table import Row, column_names, is_table, read_rows
from penstock.errors import InputError

Records = list[dict[str, str]]


def delimited(records: Records, separator: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), delimiter=separator, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def jsonl(records: Records) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def parquet(records: list[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), out, **options)
    return out.getvalue()


FORMATS: dict[str, Callable[[Records], bytes]] = {
    ".csv": lambda records: delimited(records, ","),
    ".tsv": lambda records: delimited(records, "\t"),
    ".jsonl": jsonl,
    ".parquet": lambda records: parquet(records, row_group_size=7),
}


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def error(path: Path, *columns: str, **options: Any) -> str:
    """The sentence, after the file's name."""
    with pytest.raises(InputError) as caught:
        list(read_rows(path, columns, **options))
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path)).lstrip(":, ")


def random_records(seed: int, letters: str) -> Records:
    source = random.Random(seed)

    def text() -> str:
        return "".join(source.choices(letters, k=source.randrange(1, 20)))

    return [{"id": str(i), "text": text(), "a label": text()} for i in range(40)]


@pytest.mark.parametrize("compressed", ["", ".gz"])
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("seed", range(5))
def test_every_format_gives_back_what_was_written(
    tmp_path: Path, suffix: str, compressed: str, seed: int
) -> None:
    letters = "aé中😀 ,;'\"\\#\x85\u2028\u00a0" + ("" if suffix == ".tsv" else "\t\n\r")
    records = random_records(seed, letters)
    path = save(tmp_path / f"data{suffix}{compressed}", FORMATS[suffix](records))
    rows = list(read_rows(path, ["a label", "text"]))
    assert [row.values for row in rows] == [{k: r[k] for k in ("a label", "text")} for r in records]
    assert column_names(path) == ["id", "text", "a label"]
    assert is_table(path)


@pytest.mark.parametrize("seed", range(5))
def test_csv_line_numbers_with_line_breaks_in_fields(tmp_path: Path, seed: int) -> None:
    records = random_records(seed, 'ab"\n')
    content = delimited(records, ",")
    path = save(tmp_path / "a.csv", content)
    lines = content.split(b"\n")
    for row, record in zip(read_rows(path, ["id"]), records, strict=True):
        assert lines[row.line - 1].startswith(record["id"].encode() + b",")


def test_line_numbers_skip_blank_lines(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", b'text\n\n"one\ntwo"\n\nthree\n')
    assert list(read_rows(path, ["text"])) == [Row(3, {"text": "one\ntwo"}), Row(6, {"text": "three"})]
    path = save(tmp_path / "a.jsonl", b'\n{"text": "a"}\n  \n{"text": "b"}\n')
    assert [row.line for row in read_rows(path, ["text"])] == [2, 4]


def test_tsv_takes_quotes_as_they_stand_unless_they_enclose_a_field(tmp_path: Path) -> None:
    fields = ['"', '""', '"so', 'so"', '"a" b "c"', '"he said ""hi"""', '"quoted"', 'plain "inner" text']
    content = "text\tlabel\n" + "".join(f"{field}\tx\n" for field in fields)
    path = save(tmp_path / "a.tsv", content.encode())
    texts = [row.values["text"] for row in read_rows(path, ["text"])]
    assert texts == ['"', "", '"so', 'so"', '"a" b "c"', 'he said "hi"', "quoted", 'plain "inner" text']


def test_scalars_become_text(tmp_path: Path) -> None:
    record = {"i": 3, "f": 0.5, "yes": True, "no": False, "s": "é"}
    expected = {"i": "3", "f": "0.5", "yes": "true", "no": "false", "s": "é"}
    for path in (
        save(tmp_path / "a.jsonl", jsonl([record])),
        save(tmp_path / "a.parquet", parquet([record])),
    ):
        assert list(read_rows(path, list(record))) == [Row(1, expected)]


def test_parquet_of_other_string_types(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "large": pyarrow.array(["a", "b"], pyarrow.large_string()),
            "category": pyarrow.array(["x", "y"]).dictionary_encode(),
            "bytes": pyarrow.array([b"\xc3\xa9", b"z"]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = [row.values for row in read_rows(tmp_path / "a.parquet", ["large", "category", "bytes"])]
    assert rows == [
        {"large": "a", "category": "x", "bytes": "é"},
        {"large": "b", "category": "y", "bytes": "z"},
    ]


def test_a_very_long_field(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", b"text\n" + b"x" * 5_000_000 + b"\n")
    assert [len(row.values["text"]) for row in read_rows(path, ["text"])] == [5_000_000]


@pytest.mark.parametrize("suffix", [*FORMATS, ".csv.gz", ".parquet.gz"])
def test_missing_file(tmp_path: Path, suffix: str) -> None:
    assert error(tmp_path / f"none{suffix}", "text") == "no such file"


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gz", "a.csv.zip"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, b"text\na\n")
    assert error(path, "text").startswith("expected a table whose name ends in .csv, .tsv, .jsonl")
    assert not is_table(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.jsonl", b"", "the file is empty"),
        ("a.csv", b"text,label\n", "expected rows, got none"),
        ("a.tsv", b"text\tlabel\n", "expected rows, got none"),
        ("a.csv", b"\n\n", "expected rows, got none"),
        ("a.jsonl", b"\n\n", "expected rows, got none"),
        ("a.csv", b"text,label\na\n", "line 2: expected 2 columns as in the header, got 1"),
        ("a.csv", b'text,label\n"a\nb",c\na,b,c\n', "line 4: expected 2 columns as in the header, got 3"),
        ("a.tsv", b"text\tlabel\na\tb\nc\n", "line 3: expected 2 columns as in the header, got 1"),
        ("a.csv", b"text;label\na;b\n", "no column 'text'; the columns are 'text;label'"),
        ("a.csv", b"body,label\na,b\n", "no column 'text'; the columns are 'body', 'label'"),
        ("a.csv", b"text,text\na,b\n", "the column 'text' appears more than once in the header"),
        ("a.csv", b'text,label\na,b\n"c,d\ne,f\n', "line 3: a quote opened in this row is never closed"),
        ("a.csv", b'text,label\n"a "b" c",d\n', "line 2: not valid csv (',' expected after '\"')"),
        ("a.csv", b"text,label\ra,b\r", "line 1: not valid csv"),
        ("a.csv", b"text\nok\n\xff\n", "line 3: expected UTF-8, got the byte 0xff"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: expected a JSON object, got [1]"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', "line 2: not valid JSON"),
        ("a.jsonl", b'{"body": "a", "label": 1}\n', "line 1: no key 'text'; the keys are 'body', 'label'"),
        ("a.jsonl", b'{"text": null}\n', "line 1: the column 'text' is null"),
        (
            "a.jsonl",
            b'{"text": ["a"]}\n',
            "line 1: the column 'text' holds a list; expected text or a number",
        ),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "line 1: the column 'text' holds half a character"),
        ("a.parquet", b"", "not a Parquet file, or a truncated one"),
        ("a.parquet", b"PAR1 this is none PAR1", "not a Parquet file, or a truncated one"),
        ("a.parquet", parquet([{"text": "a"}, {"text": None}]), "row 2: the column 'text' is null"),
        (
            "a.parquet",
            parquet([{"body": "a", "label": 1}]),
            "no column 'text'; the columns are 'body', 'label'",
        ),
        ("a.parquet", parquet([{"text": b"\xff"}]), "row 1: the column 'text' is not UTF-8"),
        ("a.parquet", parquet([{"text": ["a"]}]), "row 1: the column 'text' holds a list"),
    ],
)
def test_one_sentence_for_each_mistake(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    assert error(save(tmp_path / name, content), "text").startswith(sentence)


def test_parquet_without_rows(tmp_path: Path) -> None:
    table = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert error(tmp_path / "a.parquet", "text") == "expected rows, got none"


def test_truncated_parquet(tmp_path: Path) -> None:
    whole = parquet([{"text": f"{i} text"} for i in range(1000)])
    assert error(save(tmp_path / "a.parquet", whole[:-9]), "text").startswith("not a Parquet file")
    path = tmp_path / "b.parquet.gz"
    path.write_bytes(gzip.compress(whole)[:-20])
    assert error(path, "text").startswith("the .gz file is truncated or damaged")


def test_damaged_parquet(tmp_path: Path) -> None:
    content = bytearray(parquet([{"text": f"{i} text"} for i in range(1000)], compression="zstd"))
    content[8:200] = bytes(192)
    assert "the Parquet file is damaged" in error(save(tmp_path / "a.parquet", bytes(content)), "text")


@pytest.mark.parametrize(("name", "row"), [("a.csv", "line 3"), ("a.parquet", "row 2")])
def test_an_empty_value_where_none_may_be(tmp_path: Path, name: str, row: str) -> None:
    records = [{"text": "", "label": "x"}, {"text": "a", "label": " "}]
    path = save(tmp_path / name, FORMATS[name[1:]](records))
    assert error(path, "text", "label", nonempty=["label"]) == f"{row}: the column 'label' is empty"
    assert len(list(read_rows(path, ["text", "label"]))) == 2


def write_big(path: Path, rows: int) -> None:
    """A table of about `rows` kilobytes, in the format of the suffix; Parquet in a single row group."""
    text = random.Random(0).randbytes(500).hex()  # hardly compressible
    suffix = path.suffixes[0]
    if suffix == ".parquet":
        texts = [f"{i} {text[i % 1000 :]}{text[: i % 1000]}" for i in range(rows)]
        options = {"row_group_size": rows, "compression": "none", "use_dictionary": False}
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, **options)
        return
    with gzip.open(path, "wt", 1) if path.suffix == ".gz" else open(path, "w") as file:
        file.write("" if suffix == ".jsonl" else "text\n")
        for i in range(rows):
            file.write(f'{{"text": "{i} {text}"}}\n' if suffix == ".jsonl" else f"{i} {text}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".jsonl", ".parquet"])
def test_memory_stays_flat(tmp_path: Path, suffix: str) -> None:
    """By how much the process grows while 40 MB are read."""
    path = tmp_path / f"big{suffix}"
    write_big(path, 40_000)
    script = """
import pathlib, re, sys, pyarrow.parquet
from penstock.data.table import read_rows
def peak():  # a child inherits the parent's peak in getrusage, but not here
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
before = peak()
print(sum(1 for row in read_rows(sys.argv[1], ["text"])), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 40_000
    assert kilobytes < 30_000
