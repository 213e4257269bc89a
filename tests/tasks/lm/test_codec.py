"""Text to tokens and back, at every level."""

import re
from pathlib import Path

import pytest

from penstock.errors import InputError
from penstock.tasks.lm import codec
from penstock.tasks.lm.codec import Level

TEXT = "Ann saw\ther  boat.\r\n\n  她看见了 her  böat. 🚣 <pad> <unk>\n"


def learn(level: Level, text: str = TEXT, size: int = 300, least: int = 1) -> codec.Codec:
    return codec.learn(level, text.splitlines(keepends=True), size, least)


@pytest.mark.parametrize("level", ["char", "byte", "bpe"])
def test_the_text_comes_back(level: Level) -> None:
    learnt = learn(level)
    assert learnt.decode(learnt.encode(TEXT)) == TEXT
    pieces = [id for ids in learnt.encode_stream(["Ann s", "aw her", " boa", "t.\n"]) for id in ids]
    assert learnt.decode(pieces) == "Ann saw her boat.\n"
    assert all(2 <= id < len(learnt) for id in learnt.encode(TEXT))


@pytest.mark.parametrize("level", ["byte", "bpe"])
def test_what_was_never_seen_comes_back_too(level: Level) -> None:
    learnt = learn(level, "abc abc abc\n")
    assert learnt.decode(learnt.encode("完全 new 🚣\n")) == "完全 new 🚣\n"


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_assets_give_the_same_codec(level: Level) -> None:
    learnt = learn(level)
    loaded = codec.load(level, learnt.assets(), Path("model"))
    assert len(loaded) == len(learnt)
    assert loaded.encode(TEXT).tolist() == learnt.encode(TEXT).tolist()
    assert loaded.assets() == learnt.assets()


def test_words_stand_between_white_space() -> None:
    learnt = learn("word")
    names = [learnt.name(id) for id in learnt.encode(TEXT)]
    assert names[:6] == ["Ann", "saw", "her", "boat.", "\n", "\n"]
    assert names[6:8] == ["她看见了", "her"]
    assert names[-3:] == ["<unk>", "<unk>", "\n"], "the names of special tokens are no special text"
    assert learnt.decode(learnt.encode("Ann saw\n her   boat.")) == "Ann saw\nher boat."


def test_text_goes_on_after_a_prompt() -> None:
    learnt = learn("word")
    ids = learnt.encode("saw her").tolist()
    for prompt, expected in (("Ann", " saw her"), ("Ann ", "saw her"), ("", "saw her")):
        decoder = learnt.decoder(after=prompt)
        assert "".join(map(decoder.push, ids)) == expected


def test_a_character_of_several_tokens_appears_when_it_is_whole() -> None:
    learnt = learn("byte")
    decoder = learnt.decoder()
    assert [decoder.push(int(id)) for id in learnt.encode("好a")] == ["", "", "好", "a"]
    assert [decoder.push(int(id)) for id in learnt.encode("好")[:2]] == ["", ""]
    assert decoder.end() == "\N{REPLACEMENT CHARACTER}"
    assert learnt.name(int(learnt.encode("好")[0])) == r"\xe5"


def test_rare_and_left_over_tokens_are_unknown() -> None:
    assert learn("char", "aaaabbc", least=2).encode("abc").tolist() == [2, 3, 1]
    assert learn("char", "aaaabbc", size=3).encode("abc").tolist() == [2, 1, 1]
    assert learn("word", "a a b", size=3).encode("a b").tolist() == [2, 1]
    assert learn("char", "aab").decode([2, 1, 3]) == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_tokens_do_not_depend_on_how_the_text_is_read(level: Level) -> None:
    text = TEXT * 3 + "\n \n  end"
    learnt = learn(level, text, size=400)
    whole = learnt.encode(text).tolist()
    for pieces in (text.splitlines(keepends=True), [text], ["", *re.findall(r"\r\n|.", text, re.S)]):
        assert [id for ids in learnt.encode_stream(pieces) for id in ids.tolist()] == whole


def test_half_a_character_is_unknown() -> None:
    assert learn("char").encode("a\ud800").tolist()[1] == 1


def test_words_are_not_cut_where_pieces_end() -> None:
    assert list(codec.whole_words(["one tw", "o th", "ree\n", "f", "our"])) == [
        "one ",
        "two ",
        "three\n",
        "four",
    ]
    assert list(codec.whole_words(["x" * 60_000] * 2)) == ["x" * 60_000 * 2]


def test_lines_are_not_cut_where_pieces_end() -> None:
    assert list(codec.whole_lines(["one tw", "o\nth", "ree\n\n  f", "our"])) == [
        "one two\n",
        "three\n\n",
        "  four",
    ]
    long = "word " * 15_000
    parts = list(codec.whole_lines([long, long, "end"]))
    assert "".join(parts) == long * 2 + "end"
    assert parts[1] == " end"
    assert list(codec.whole_lines(["x" * 60_000] * 2)) == ["x" * 60_000 * 2]


def test_a_beginning_has_the_pieces_of_the_text_it_begins() -> None:
    learnt = learn("bpe", "Ann saw her boat.\n" * 9)
    whole = learnt.encode("Ann saw her boat.\n").tolist()
    (start,) = learnt.encode_stream(["Ann saw her boat"])
    assert whole[: len(start)] == start.tolist()


def test_mistakes() -> None:
    with pytest.raises(InputError, match="--vocabulary-size 100: expected at least 258 for --level bpe"):
        learn("bpe", size=100)
    with pytest.raises(InputError, match=r"config\.json: 'assets' lacks vocabulary\.json"):
        codec.load("char", {}, Path("model"))
