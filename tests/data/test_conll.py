"""Tagged sentences: both layouts, their odd corners, writing back, and what is wrong in one sentence."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from penstock.data.conll import Sentence, read_sentences
from penstock.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"

CONLLU = """\
# sent_id = 1
# text = Didn't # it?
1-2\tDidn't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDid\tdo\tAUX\tVBD\t_\t0\troot\t_\t_
2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
2.1\tghost\tghost\tVERB\t_\t_\t_\t_\t_\t_
3\t#\t#\tSYM\t#\t_\t1\tdep\t_\t_
4\tit all\tit\tPRON\tPRP\t_\t1\tnsubj\t_\t_

# sent_id = 2
1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_

"""
# Tabs; blanks as tokens' parts; `#` as a token; a sentence end of a tab; no end of the last line.
TABBED = "-DOCSTART-\tO\n\n#\tO\nNew York\tB-LOC\n\u00a0\tO\n\t\nx\u200by\tO\n\n\n@a\tB-PER"
SPACED = "-DOCSTART- -X- O\n\nEU NNP  B-ORG\nrejects VBZ  O\n\n Peter NNP B-PER \n"


def save(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path, text: str, **options: Any) -> list[Sentence]:
    return list(read_sentences(save(path, text), **options))


def words(sentences: list[Sentence]) -> list[list[tuple[str, str]]]:
    return [list(zip(s.tokens, s.tags or [], strict=True)) for s in sentences]


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz", "a.txt"])
def test_conllu(tmp_path: Path, name: str) -> None:
    sentences = read(tmp_path / name, CONLLU)
    assert words(sentences) == [
        [("Did", "AUX"), ("n't", "PART"), ("#", "SYM"), ("it all", "PRON")],
        [("Yes", "INTJ")],
    ]
    assert [s.line for s in sentences] == [4, 11]
    assert sentences[0].lines == [4, 5, 7, 8]


@pytest.mark.parametrize("column", ["xpos", "XPOS", 5, "5", -6])
def test_conllu_columns_by_name_or_number(tmp_path: Path, column: int | str) -> None:
    first = read(tmp_path / "a.conllu", CONLLU, tag_column=column, token_column="lemma")[0]
    assert first.tags == ["VBD", "RB", "#", "PRP"]
    assert first.tokens == ["do", "not", "#", "it"]


def test_tab_separated_columns(tmp_path: Path) -> None:
    sentences = read(tmp_path / "a.txt", TABBED)
    assert words(sentences) == [
        [("#", "O"), ("New York", "B-LOC"), ("\u00a0", "O")],
        [("x\u200by", "O")],
        [("@a", "B-PER")],
    ]
    assert [s.line for s in sentences] == [3, 7, 10]


def test_space_separated_columns(tmp_path: Path) -> None:
    assert words(read(tmp_path / "a", SPACED)) == [[("EU", "B-ORG"), ("rejects", "O")], [("Peter", "B-PER")]]
    tagged = read(tmp_path / "a", SPACED, tag_column=2)
    assert [s.tags for s in tagged] == [["NNP", "VBZ"], ["NNP"]]
    assert read(tmp_path / "a", SPACED, token_column=-1, tag_column=1)[0].tokens == ["B-ORG", "O"]


def test_windows_line_ends(tmp_path: Path) -> None:
    assert words(read(tmp_path / "a", "a\tX\r\n\r\nb\tY\r\n")) == [[("a", "X")], [("b", "Y")]]


@pytest.mark.parametrize("text", [CONLLU, TABBED, SPACED, TABBED + "\n\n# the end\tO\n\n-DOCSTART-\tO\n\n"])
def test_written_back_the_same(tmp_path: Path, text: str) -> None:
    sentences = read(tmp_path / "a", text)
    lines = [line.strip(" ") for line in "".join(s.with_tags(s.tags or []) for s in sentences).splitlines()]
    assert lines == [line.strip(" ") for line in text.splitlines()]


def test_written_back_with_other_tags(tmp_path: Path) -> None:
    for text, options in ((CONLLU, {}), (CONLLU, {"tag_column": "xpos"}), (SPACED, {}), (TABBED, {})):
        sentences = read(tmp_path / "a", text, **options)
        tags = [[f"T{i}" for i in range(len(s.tokens))] for s in sentences]
        written = "".join(s.with_tags(t) for s, t in zip(sentences, tags, strict=True))
        again = read(tmp_path / "b", written, **options)
        assert [s.tags for s in again] == tags
        assert [s.tokens for s in again] == [s.tokens for s in sentences]


def test_without_tags(tmp_path: Path) -> None:
    sentences = read(tmp_path / "a", "New York\nis\n\nbig\n".replace("New ", "New\u00a0"), tags=False)
    assert [(s.tokens, s.tags) for s in sentences] == [(["New\u00a0York", "is"], None), (["big"], None)]
    written = "".join(s.with_tags(["X"] * len(s.tokens)) for s in sentences)
    assert written == "New\u00a0York\tX\nis\tX\n\nbig\tX\n"
    for text in (CONLLU, TABBED, SPACED):
        assert all(s.tags is None for s in read(tmp_path / "a", text, tags=False))


def test_tag_column_to_be_added(tmp_path: Path) -> None:
    for text, expected in (("a NN\nb VB\n", "a NN X\nb VB X\n"), ("a\tNN\nb\tVB\n", "a\tNN\tX\nb\tVB\tX\n")):
        (sentence,) = read(tmp_path / "a", text, tags=False, tag_column=3)
        assert sentence.with_tags(["X", "X"]) == expected


def test_wrong_number_of_tags(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tags: expected 1 as there are tokens, got 2"):
        read(tmp_path / "a", "a X\n")[0].with_tags(["X", "Y"])


@pytest.mark.parametrize("seed", range(10))
def test_random_round_trip(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    letters = "ab#-.é中\u00a0\u200b\u2028\x85😀\"'"

    def word() -> str:
        return "".join(source.choices(letters, k=source.randrange(1, 4)))

    expected = [[(word(), word()) for _ in range(source.randrange(1, 6))] for _ in range(20)]
    for separator in "\t ":
        text = "\n\n".join("\n".join(separator.join(pair) for pair in sentence) for sentence in expected)
        sentences = read(tmp_path / "a", text + "\n" * source.randrange(3))
        assert words(sentences) == expected


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("", {}, "the file is empty"),
        ("\n\n", {}, "expected sentences, got only blank lines"),
        ("-DOCSTART- O\n\n", {}, "expected sentences, got no token line"),
        ("a\tX\nb\n", {}, "line 2: expected 2 columns as on line 1, got 1"),
        ("a X\nb Y Z\n", {}, "line 2: expected 2 columns as on line 1, got 3"),
        ("a\tX\n\n\tY\n", {}, "line 3: the token (column 1) is empty"),
        ("a\tX\nb\t\n", {}, "line 2: the tag (column 2) is empty"),
        ("a\nb\n", {}, "line 1: expected a token and a tag, got 1 column"),
        ("a b\n", {"tag_column": 3}, "line 1: expected a tag in column 3 beside the token's, got 2 columns"),
        ("a b\n", {"token_column": 3}, "line 1: expected a token in column 3, got 2 columns"),
        ("a b\n", {"token_column": 2}, "line 1: token and tag are both in column 2"),
        ("a b\n", {"tag_column": 0}, "line 1: column 0: columns count from 1"),
        ("a b\n", {"tag_column": "upos"}, "line 1: column 'upos': expected a number (no CoNLL-U file)"),
        (CONLLU, {"tag_column": "pos"}, "line 3: column 'pos': expected a number or one of id, form, lemma"),
        (CONLLU + "1\tx\tx\tX\n", {}, "line 13: expected 10 tab-separated columns of CoNLL-U, got 4"),
        (CONLLU + "\t".join("xabcdefghi"), {}, "line 13: expected a token's number in column 1, got 'x'"),
    ],
)
def test_one_sentence_for_each_mistake(
    tmp_path: Path, text: str, options: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError) as caught:
        read(path, text, **options)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).removeprefix(str(path)).lstrip(":, ").startswith(sentence)


def test_broken_conllu_known_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1: expected 10 tab-separated columns of CoNLL-U, got 2"):
        read(tmp_path / "a.conllu", "a\tX\n")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_sentences(tmp_path / "a.conllu"))


def test_streams(tmp_path: Path) -> None:
    """A mistake late in the file is met only after the sentences before it."""
    sentences = read_sentences(save(tmp_path / "a", "a X\n\n" * 100 + "broken\n"))
    assert sum(1 for _, s in zip(range(99), sentences, strict=False) if s.tokens == ["a"]) == 99
    with pytest.raises(InputError, match="line 201"):
        list(sentences)


@pytest.mark.parametrize(
    ("file", "sentences", "tokens"),
    [
        ("wnut17/wnut17train.conll", 3394, 62730),
        ("wnut17/emerging.dev.conll", 1009, 15733),
        ("ud_english_ewt/en_ewt-ud-dev.conllu", 2001, 25147),
    ],
)
def test_real_files(file: str, sentences: int, tokens: int) -> None:
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"the data set {file} is not beside the checkout")
    read = list(read_sentences(path))
    assert len(read) == sentences
    assert sum(len(s.tokens) for s in read) == tokens
    assert "".join(s.with_tags(s.tags or []) for s in read) == path.read_bytes().decode()
