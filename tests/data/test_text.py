"""Text to ids: what is a token, unknowns, truncation, JSON, processes."""

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from penstock.data.text import Keep, Kind, encode_batch, load_tokenizer, save_tokenizer, train_tokenizer
from penstock.errors import InputError

KINDS: list[Kind] = ["word", "bpe", "char", "byte"]


def words(text: str, lowercase: bool = True) -> list[str]:
    return train_tokenizer([text], lowercase=lowercase).encode(text).tokens


def test_words_numbers_and_punctuation() -> None:
    text = "Don't panic!!!!! It’s 3.5/10, e.g. <br /><br/> mp3 5,000 snake_case (naïve) x² «oui»…"
    assert words(text) == [
        *[
            "don't",
            "panic",
            "!!!",
            "!!",
            "it's",
            "3.5",
            "/",
            "10",
            ",",
            "e",
            ".",
            "g",
            ".",
            "<br />",
            "<br/>",
        ],
        *["mp3", "5,000", "snake_case", "(", "naïve", ")", "x2", "«", "oui", "»", "..."],
    ]
    assert words("Don't SHOUT", lowercase=False) == ["Don't", "SHOUT"]


def test_scripts_without_spaces() -> None:
    assert words("我爱北京，2020年。") == ["我", "爱", "北", "京", ",", "2020", "年", "。"]
    assert words("カナで書く") == ["カ", "ナ", "で", "書", "く"]
    assert "".join(words("ประเทศไทย")) == "ประเทศไทย"
    assert len(words("ประเทศไทย")) > 5


def test_combining_and_joining_characters_stay_in_their_word() -> None:
    assert words("cafe\u0301 हिन्दी می\u200cخواهم Straße") == ["café", "हिन्दी", "می\u200cخواهم", "straße"]
    assert words("a\u200b b\u0000c") == ["a", "b", "c"]


@pytest.mark.parametrize("kind", KINDS)
def test_pad_and_unknown(kind: Kind) -> None:
    tokenizer = train_tokenizer(["some text to learn, with <pad> and <unk> and <PAD> in it"] * 3, kind, 300)
    vocabulary = tokenizer.get_vocab()
    assert (vocabulary["<pad>"], vocabulary["<unk>"]) == (0, 1)
    assert tokenizer.get_vocab_size() <= 300
    (literal,) = encode_batch(tokenizer, ["<pad><unk> <PAD>"])
    assert 0 not in literal
    (strange,) = encode_batch(tokenizer, ["☃☃"])
    assert (1 in strange) == (kind not in ("bpe", "byte"))
    assert [row.tolist() for row in encode_batch(tokenizer, ["", " \n" if kind == "word" else ""])] == [
        [1],
        [1],
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_random_texts_round_trip_through_json(kind: Kind, seed: int) -> None:
    source = random.Random(seed)
    letters = "abcdE  '.,!<>/1234é中文カ😀\u0301\u200d\x00\n\t"
    texts = ["".join(source.choices(letters, k=source.randrange(1, 60))) for _ in range(200)]
    tokenizer = train_tokenizer(texts, kind, 400)
    rows = encode_batch(tokenizer, texts)
    loaded = load_tokenizer(save_tokenizer(tokenizer))
    for row, again, text in zip(rows, encode_batch(loaded, texts), texts, strict=True):
        assert row.dtype == "int32"
        assert row.tolist() == again.tolist()
        assert len(row) >= 1
        if kind in ("bpe", "byte"):  # nothing is lost but case, and a blank put in front
            assert tokenizer.decode(row.tolist()).strip() == tokenizer.normalizer.normalize_str(text).strip()
        if kind == "char":
            assert len(row) == len(tokenizer.normalizer.normalize_str(text))


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_repeatable_and_streams(kind: Kind) -> None:
    texts = [f"word{i % 37} word{i % 11} équal{i % 5}" for i in range(500)]

    def stream() -> Iterator[str]:
        yield from texts

    first, second = (save_tokenizer(train_tokenizer(stream(), kind, 320)) for _ in range(2))
    assert first == second


def test_vocabulary_limits() -> None:
    texts = ["a a a b b c"]
    assert list(train_tokenizer(texts, vocabulary=3).get_vocab()) != []
    assert set(train_tokenizer(texts, vocabulary=4).get_vocab()) == {"<pad>", "<unk>", "a", "b"}
    assert set(train_tokenizer(texts, min_frequency=3).get_vocab()) == {"<pad>", "<unk>", "a"}
    assert set(train_tokenizer(["abca"], "char", 3).get_vocab()) == {"<pad>", "<unk>", "a"}


@pytest.mark.parametrize(("keep", "expected"), [("head", "a b c"), ("tail", "e f g"), ("both", "a b g")])
def test_truncation(keep: Keep, expected: str) -> None:
    tokenizer = train_tokenizer(["a b c d e f g"])
    short, long = encode_batch(tokenizer, ["a b", "a b c d e f g"], max_length=3, keep=keep)
    assert tokenizer.decode(long.tolist()) == expected
    assert tokenizer.decode(short.tolist()) == "a b"
    assert [len(row) for row in encode_batch(tokenizer, ["a b c"], max_length=1, keep=keep)] == [1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text(kind: Kind, texts: list[str]) -> None:
    with pytest.raises(InputError, match="expected text to learn a vocabulary from"):
        train_tokenizer(texts, kind)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="vocabulary: expected at least 258 for 'bpe', got 100"):
        train_tokenizer(["a"], "bpe", 100)
    with pytest.raises(InputError, match="vocabulary: expected at least 3 for 'word', got 2"):
        train_tokenizer(["a"], vocabulary=2)
    with pytest.raises(ValueError, match="kind: expected 'word', 'bpe', 'char' or 'byte', got 'letters'"):
        train_tokenizer(["a"], "letters")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="max_length"):
        encode_batch(train_tokenizer(["a"]), ["a"], max_length=0)


@pytest.mark.parametrize("text", ["", "{}", '{"version": "1.0"', '["a"]'])
def test_damaged_file(text: str) -> None:
    with pytest.raises(InputError, match=r"^model/tokenizer\.json: expected a tokenizer's JSON"):
        load_tokenizer(text, "model/tokenizer.json")


def test_foreign_tokenizer() -> None:
    foreign = save_tokenizer(train_tokenizer(["a b"])).replace("<pad>", "[PAD]")
    with pytest.raises(InputError, match="expected <pad> with the id 0"):
        load_tokenizer(foreign)


def test_a_forked_worker_encodes_without_warning_or_deadlock() -> None:
    script = """
import multiprocessing
from penstock.data.text import encode_batch, train_tokenizer
tokenizer = train_tokenizer(["a b c"] * 1000)
encode_batch(tokenizer, ["a b c"] * 1000)
def work(queue):
    queue.put(sum(map(len, encode_batch(tokenizer, ["a b c"] * 1000))))
context = multiprocessing.get_context("fork")
queue = context.SimpleQueue()
worker = context.Process(target=work, args=(queue,))
worker.start()
print(queue.get())
worker.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("3000\n", "")


def test_exact_pieces_spell_the_text() -> None:
    text = "e\u0301 Two  words\r\n\t好🚣"
    plain, exact = (
        train_tokenizer([text], "bpe", 300, lowercase=False, exact=flag) for flag in (False, True)
    )
    assert exact.decode(exact.encode(text).ids) == text
    assert plain.decode(plain.encode(text).ids) != text
