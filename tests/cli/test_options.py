"""From pydantic fields to flags and YAML keys, and what is said of wrong ones."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field, model_validator

from penstock.cli.options import Parser, add_options, resolve
from penstock.errors import InputError
from penstock.training.config import Options, positional


class Shared(Options):
    """Shared things."""

    rate: float = Field(0.1, gt=0, le=1, description="how fast")
    steps: int | None = Field(None, ge=2, description="how many; 100 % if not given")


class Sample(Shared):
    """Things of its own."""

    data: Path = Field(description="what to read", json_schema_extra=positional("DATA"))
    kind: Literal["big", "small"] = Field("big", description="which")
    two_words: bool = Field(True, description="whether")
    names: list[str] = Field([], description="which ones")
    json_file: Path | None = Field(None, alias="json", description="where to")

    @model_validator(mode="after")
    def _small_is_slow(self) -> "Sample":
        if self.kind == "small" and self.rate > 0.5:
            raise ValueError("kind='small' needs a rate of at most 0.5")
        return self


def parse(*words: str, config: Path | None = None) -> Sample:
    parser = Parser(prog="penstock test")
    add_options(parser, Sample)
    return resolve(Sample, parser.values(list(words)), config)


def test_flags_become_values() -> None:
    found = parse("in.csv", "--rate", "0.5", "--no-two-words", "--names", "a,b c", "--json", "out.json")
    assert (found.data, found.rate, found.two_words) == (Path("in.csv"), 0.5, False)
    assert (found.names, found.json_file) == (["a", "b c"], Path("out.json"))


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("data: a.csv\nrate: 0.25\nnames: [x, y]\ntwo_words: false\n")
    found = parse("--rate", "0.75", config=file)
    assert (found.data, found.rate, found.names, found.two_words) == (Path("a.csv"), 0.75, ["x", "y"], False)
    assert found.kind == "big"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    before = parse("in.csv", "--steps", "7", "--json", "x.json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before.model_dump(mode="json")))
    assert parse(config=tmp_path / "config.yaml") == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x", "--rate", "3"], "--rate: expected a number above 0 and at most 1, got '3'"),
        (["x", "--rate", "fast"], "--rate: expected a number above 0 and at most 1, got 'fast'"),
        (["x", "--steps", "2.5"], "--steps: expected a whole number at least 2, got '2.5'"),
        (["x", "--kind", "huge"], "--kind: expected one of big, small, got 'huge'"),
        ([], "DATA is missing: what to read"),
        (["x", "--rat", "0.5"], "unknown argument --rat (did you mean --rate?); see penstock test --help"),
        (["x", "--nonsense=1"], "unknown argument --nonsense=1; see penstock test --help"),
        (["x", "y"], "unknown argument y; see penstock test --help"),
        (["x", "--rate"], "argument --rate: expected one argument; see penstock test --help"),
        (["x", "--two-words=3"], "argument --two-words/--no-two-words: ignored explicit argument '3'; see"),
        (["x", "--kind", "small", "--rate", "0.9"], "kind='small' needs a rate of at most 0.5"),
    ],
)
def test_wrong_flags_are_said(words: list[str], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse(*words)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rte: 3", ": unknown key 'rte' (did you mean 'rate'?)"),
        ("5: 3", ": unknown key 5"),
        ("rate: fast", ": rate: expected a number above 0 and at most 1, got 'fast'"),
        ("names: a", ": names: expected a list of texts, got 'a'"),
        ("two_words: 7", ": two_words: expected true or false, got 7"),
        ("steps: 2.5", ": steps: expected a whole number at least 2, got 2.5"),
        ("steps: true", ": steps: expected a whole number at least 2, got True"),
        ("rate: [1", ", line 1: not valid YAML: "),
        ("a: 1\n\tb: 2", ", line 2: not valid YAML: "),
        ("- rate", ": expected `key: value` lines, got list"),
        ("", ": expected `key: value` lines, got an empty file"),
        ("rate: 0.1\nrate: 0.2", ", line 2: the key 'rate' appears twice"),
    ],
)
def test_wrong_files_are_said(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        parse("x", config=file)
    assert str(error.value).startswith(f"{file}{sentence}")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read: No such file"):
        parse("x", config=tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        parse("x", config=tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"kind: gro\xdf")
    with pytest.raises(InputError, match=r"latin\.yaml: cannot be read: .*0xdf"):
        parse("x", config=tmp_path / "latin.yaml")


def test_help_shows_groups_choices_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "shared things: --rate X how fast (default: 0.1)",
        "--steps N how many; 100 % if not given",
        "things of its own: DATA what to read",
        "--kind {big,small} which (default: big)",
        "--two-words, --no-two-words whether (default: on)",
        "--names TEXT,TEXT,... which ones",
        "--json PATH where to",
    ):
        assert part in text


def test_positionals_may_stand_between_flags() -> None:
    class Many(Options):
        """Many."""

        inputs: list[str] = Field([], description="what", json_schema_extra=positional("INPUT"))
        rate: float = Field(0.1, description="how fast")

    def read(*words: str) -> dict[str, Any]:
        parser = Parser(prog="penstock test")
        add_options(parser, Many)
        return resolve(Many, parser.values(list(words))).model_dump()

    assert read("a", "--rate", "2", "b") == {"inputs": ["a", "b"], "rate": 2.0}
    assert read("--", "-a") == {"inputs": ["-a"], "rate": 0.1}
    assert read() == {"inputs": [], "rate": 0.1}
