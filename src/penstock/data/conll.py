"""Tagged sentences: CoNLL-U and column files, one token a line, read and written back."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock.data.lines import read_lines
from penstock.errors import InputError

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

_WORD_ID = re.compile(r"\d+")
_ANY_ID = re.compile(r"\d+([-.]\d+)?")
_SPACES = re.compile(r"( +)")
# Only these are layout; other white space (no-break, ideographic) may be part of a token.
_BLANK = " \t"


@dataclass(slots=True)
class Sentence:
    """One sentence and the lines of the file it came from.

    Attributes:
        tokens: the words, at least one.
        tags: their tags; None where none were asked for.
        line: the number of the first token's line.
        lines: the numbers of all tokens' lines.
        raw: the file's lines from the end of the previous sentence to this one's, comments and blanks
            included.
    """

    tokens: list[str]
    tags: list[str] | None
    line: int
    lines: list[int]
    raw: list[str]
    _rows: list[int] = field(repr=False)  # which of `raw` are tokens
    _tag: int | None = field(repr=False)  # the tag column, None where there is none yet

    def with_tags(self, tags: Sequence[str]) -> str:
        """The sentence in the format it was read from, the tag column filled with `tags`.

        Where the file has no tag column, it is added as the last. The texts of all sentences of a file, one
        after the other, are the file, apart from line ends and the tags.
        """
        if len(tags) != len(self.tokens):
            raise ValueError(f"tags: expected {len(self.tokens)} as there are tokens, got {len(tags)}")
        lines = list(self.raw)
        for row, tag in zip(self._rows, tags, strict=True):
            lines[row] = _filled(lines[row], self._tag, tag)
        return "".join(line + "\n" for line in lines)


def read_sentences(
    path: str | os.PathLike[str],
    token_column: int | str | None = None,
    tag_column: int | str | None = None,
    tags: bool = True,
) -> Iterator[Sentence]:
    """Yield the sentences of a tagged file (which may be gzipped). The file is never held in memory.

    A file is CoNLL-U if its name ends in `.conllu` or its first token line has ten tab-separated columns that
    begin with a token's id. Its comments, multiword ranges (1-2) and empty nodes (1.1) are not tokens.
    Any other file has columns separated by tabs or, on a line without a tab, by spaces, the same number on
    every line; a line of blanks ends a sentence, and lines that begin with `-DOCSTART-` are not tokens. In
    such a file `#` has no special meaning.

    Args:
        path: the file.
        token_column: from 1, or negative from the last; or in CoNLL-U a name of `CONLLU_COLUMNS`. None for
            the form in CoNLL-U and otherwise the first.
        tag_column: likewise; None for upos in CoNLL-U and otherwise the last.
        tags: False reads files without a tag column too, and gives `tags=None`.

    Raises:
        InputError: a missing, damaged or empty file, no sentence in it, a column that is not there, or a line
            with an empty field or another number of columns, naming file and line.
    """
    path = Path(path)
    layout, lines = _layout(path, token_column, tag_column, tags)
    draft, finished = _Draft(), None
    for number, line in lines:
        draft.raw.append(line)
        if line.strip(_BLANK):
            draft.add(number, layout.word(line, number))
        elif draft.lines:
            if finished:
                yield finished
            draft, finished = _Draft(), draft.sentence(layout)
    if draft.lines:
        if finished:
            yield finished
        finished = draft.sentence(layout)
    elif finished:
        finished.raw += draft.raw  # what follows the last sentence is kept with it
    if not finished:
        raise InputError(f"{path}: expected sentences, got no token line")
    yield finished


class _Draft:
    """A sentence while its lines are read."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self.rows: list[int] = []
        self.lines: list[int] = []
        self.words: list[tuple[str, str]] = []

    def add(self, number: int, word: tuple[str, str] | None) -> None:
        if word is not None:
            self.rows.append(len(self.raw) - 1)
            self.lines.append(number)
            self.words.append(word)

    def sentence(self, layout: "_Layout") -> Sentence:
        tags = [tag for _, tag in self.words] if layout.tagged else None
        tokens = [token for token, _ in self.words]
        return Sentence(tokens, tags, self.lines[0], self.lines, self.raw, self.rows, layout.tag)


@dataclass(frozen=True)
class _Layout:
    """Where token and tag stand on a line."""

    path: Path
    conllu: bool
    token: int
    tag: int | None
    tagged: bool  # whether tags are wanted; else the tag's place is known only for writing
    width: int
    first: int  # the line that told the width

    def word(self, line: str, number: int) -> tuple[str, str] | None:
        """(token, tag) of a line that is not blank; None for one that is no token."""
        if line.startswith("#" if self.conllu else "-DOCSTART-"):
            return None
        fields = _fields(line)
        place = f"{self.path}, line {number}"
        if len(fields) != self.width:
            kind = "tab-separated columns of CoNLL-U" if self.conllu else f"columns as on line {self.first}"
            raise InputError(f"{place}: expected {self.width} {kind}, got {len(fields)}")
        if self.conllu and not _WORD_ID.fullmatch(fields[0]):
            if _ANY_ID.fullmatch(fields[0]):
                return None
            raise InputError(f"{place}: expected a token's number in column 1, got {fields[0]!r}")
        tag = fields[self.tag] if self.tagged and self.tag is not None else ""
        if not fields[self.token]:
            raise InputError(f"{place}: the token (column {self.token + 1}) is empty")
        if self.tagged and not tag:
            raise InputError(f"{place}: the tag (column {(self.tag or 0) + 1}) is empty")
        return fields[self.token], tag


def _layout(
    path: Path, token_column: int | str | None, tag_column: int | str | None, tagged: bool
) -> tuple[_Layout, Iterator[tuple[int, str]]]:
    """The layout as the first token line shows it, and all lines of the file."""
    lines = read_lines(path)
    head: list[tuple[int, str]] = []
    for number, line in lines:
        head.append((number, line))
        if line.strip(_BLANK) and not line.startswith(("#", "-DOCSTART-")):
            break
    first, line = next((pair for pair in reversed(head) if pair[1].strip(_BLANK)), (0, ""))
    if not line:
        raise InputError(f"{path}: expected sentences, got only blank lines")
    fields = _fields(line)
    named = re.search(r"\.conllu(\.gz)?$", path.name.lower())
    conllu = bool(named) or (len(fields) == len(CONLLU_COLUMNS) and bool(_ANY_ID.fullmatch(fields[0])))
    width = len(CONLLU_COLUMNS) if conllu else len(fields)
    place = f"{path}, line {first}"
    token = _position(token_column, "form" if conllu else 1, width, conllu, place)
    tag = _position(tag_column, "upos" if conllu else -1, width, conllu, place)
    if token is None:
        raise InputError(f"{place}: expected a token in column {token_column}, got {width} columns")
    if tag == token:
        if tagged and width > 1:
            raise InputError(f"{place}: token and tag are both in column {token + 1}")
        tag = None
    if tagged and tag is None:
        wanted = f"a tag in column {tag_column} beside the token's" if tag_column else "a token and a tag"
        raise InputError(f"{place}: expected {wanted}, got {width} {'column' if width == 1 else 'columns'}")
    return _Layout(path, conllu, token, tag, tagged, width, first), itertools.chain(head, lines)


def _position(
    column: int | str | None, default: int | str, width: int, conllu: bool, place: str
) -> int | None:
    """The column's index from 0, None where the line has fewer columns."""
    column = default if column is None else column
    if isinstance(column, str) and not re.fullmatch(r"-?\d+", column):
        if not conllu or column.lower() not in CONLLU_COLUMNS:
            names = f"a number or one of {', '.join(CONLLU_COLUMNS)}"
            known = names if conllu else "a number (no CoNLL-U file)"
            raise InputError(f"{place}: column {column!r}: expected {known}")
        return CONLLU_COLUMNS.index(column.lower())
    number = int(column)
    if number == 0:
        raise InputError(f"{place}: column 0: columns count from 1, or from -1 for the last")
    index = number - 1 if number > 0 else width + number
    return index if 0 <= index < width else None


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip(" ") for field in line.split("\t")]
    return _SPACES.split(line.strip(" "))[::2]


def _filled(line: str, column: int | None, tag: str) -> str:
    if "\t" in line:
        fields = line.split("\t")
        return "\t".join([*fields, tag] if column is None else [*fields[:column], tag, *fields[column + 1 :]])
    pieces = _SPACES.split(line.strip(" "))  # fields and the spaces between them in turn
    if column is None:
        return line + ("\t" if len(pieces) == 1 else " ") + tag
    pieces[2 * column] = tag
    return "".join(pieces)
