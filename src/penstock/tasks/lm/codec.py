"""Text to tokens and back, at four levels: characters, bytes, words, pieces.

`<pad>` (0) is no part of any text: it is the input before the first token. `<unk>` (1) stands for a
character or word that the vocabulary lacks. Bytes and pieces know everything.
"""

import abc
import codecs
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from penstock.data.text import encode_batch, load_tokenizer, save_tokenizer, train_tokenizer
from penstock.data.vocabulary import UNKNOWN_ID, Vocabulary
from penstock.errors import InputError

Level = Literal["char", "byte", "word", "bpe"]
Ids = NDArray[np.integer[Any]]
_VOCABULARY, _TOKENIZER = "vocabulary.json", "tokenizer.json"
_SPECIAL = 2  # ids of <pad> and <unk>, before those of bytes
_LONGEST = 100_000  # characters of a word or a line that is waited for; longer ones are cut
_WORD = re.compile(r"\n|\S+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Decoder(abc.ABC):
    """Tokens to text, one by one."""

    @abc.abstractmethod
    def push(self, token: int) -> str:
        """The text that this token completes."""

    def end(self) -> str:
        """What is left when no token follows."""
        return ""


class Codec(abc.ABC):
    """Text to token ids (0 <= id < len(codec)) and back."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def encode(self, text: str) -> Ids:
        """The ids of a text, integers (n,)."""

    @abc.abstractmethod
    def decoder(self, after: str = "") -> Decoder:
        """What makes text of tokens that follow the text `after`."""

    @abc.abstractmethod
    def name(self, token: int) -> str:
        """A token as it is shown by itself; bytes that are no whole characters as \\xNN."""

    def assets(self) -> dict[str, str]:
        """File name -> text of what `load` needs."""
        return {}

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        decoder = self.decoder()
        return "".join(map(decoder.push, tokens)) + decoder.end()

    def encode_stream(self, pieces: Iterable[str]) -> Iterator[Ids]:
        """The ids of a text that comes in pieces, the same wherever they are cut."""
        return map(self.encode, self.whole(pieces))

    def whole(self, pieces: Iterable[str]) -> Iterable[str]:
        """The same text in pieces that have the tokens of the whole."""
        return pieces


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end at white space, except the last, and words too long to be any."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        rest = text.rsplit(maxsplit=1)[-1] if text and not text[-1].isspace() else ""
        rest = rest if len(rest) <= _LONGEST else ""
        if whole := text[: len(text) - len(rest)]:
            yield whole
    if rest:
        yield rest


def whole_lines(pieces: Iterable[str]) -> Iterator[str]:
    """The same text in pieces that end where lines do; very long lines are cut before a space."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        end = text.rfind("\n") + 1
        if len(text) - end > _LONGEST:
            end = max(end, text.rfind(" ")) or len(text)
        rest = text[end:]
        if end:
            yield text[:end]
    if rest:
        yield rest


class _Tokens(Codec):
    """Tokens of a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)

    def name(self, token: int) -> str:
        return self.vocabulary.tokens[token]

    def assets(self) -> dict[str, str]:
        return {_VOCABULARY: self.vocabulary.to_json()}


class Characters(_Tokens):
    """Unicode characters."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._ids = np.full(sys.maxunicode + 1, UNKNOWN_ID, np.int32)  # of every character there can be
        for token, character in enumerate(vocabulary):
            if len(character) == 1:
                self._ids[ord(character)] = token

    def encode(self, text: str) -> Ids:
        return self._ids[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]

    def decoder(self, after: str = "") -> Decoder:
        return _CharacterDecoder(self.vocabulary.tokens)


class _CharacterDecoder(Decoder):
    def __init__(self, characters: list[str]) -> None:
        self._characters = characters

    def push(self, token: int) -> str:
        return self._characters[token] if token > UNKNOWN_ID else _REPLACEMENT


class Words(_Tokens):
    """Words between white space; an end of line is a word too. As text they have one space between them."""

    def whole(self, pieces: Iterable[str]) -> Iterable[str]:
        return whole_words(pieces)

    def encode(self, text: str) -> Ids:
        return self.vocabulary.ids(words(text)).clip(min=UNKNOWN_ID)  # "<pad>" in a text is text

    def decoder(self, after: str = "") -> Decoder:
        return _WordDecoder(self.vocabulary.tokens, after)


def words(text: str) -> list[str]:
    """The words of a text, and its ends of lines as "\\n"."""
    return _WORD.findall(text.replace("\r\n", "\n").replace("\r", "\n"))


class _WordDecoder(Decoder):
    def __init__(self, tokens: list[str], after: str) -> None:
        self._tokens = tokens
        self._glued = not after or after[-1].isspace()

    def push(self, token: int) -> str:
        word = self._tokens[token]
        before = "" if self._glued or word == "\n" else " "
        self._glued = word == "\n"
        return before + word


class _Bytes(Codec):
    """Tokens that are bytes, or strings of them."""

    @abc.abstractmethod
    def spelled(self, token: int) -> bytes:
        """The bytes of a token."""

    def decoder(self, after: str = "") -> Decoder:
        return _BytesDecoder(self)

    def name(self, token: int) -> str:
        return self.spelled(token).decode("utf-8", "backslashreplace")


class _BytesDecoder(Decoder):
    def __init__(self, codec: _Bytes) -> None:
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._codec.spelled(token))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class Bytes(_Bytes):
    """Bytes of UTF-8."""

    def __len__(self) -> int:
        return _SPECIAL + 256

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32) + _SPECIAL

    def spelled(self, token: int) -> bytes:
        return bytes([token - _SPECIAL]) if token >= _SPECIAL else b""


class Pieces(_Bytes):
    """Pieces by byte-pair encoding of UTF-8 (Sennrich et al. 2016), which spell every text exactly.

    Every line is encoded by itself. A space is part of the piece after it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> Ids:
        return np.concatenate([np.zeros(0, np.int32), *encode_batch(self._tokenizer, _LINE.findall(text))])

    def whole(self, pieces: Iterable[str]) -> Iterable[str]:
        return whole_lines(pieces)

    def spelled(self, token: int) -> bytes:
        piece = self._tokenizer.id_to_token(token) if token > UNKNOWN_ID else None
        return bytes(_BYTE_OF[character] for character in piece or "")

    def assets(self) -> dict[str, str]:
        return {_TOKENIZER: save_tokenizer(self._tokenizer)}


def _byte_names() -> dict[str, int]:
    """The printable character by which the tokenizers library writes each byte, as GPT-2 did."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_names()


def learn(level: Level, pieces: Iterable[str], vocabulary_size: int, min_frequency: int) -> Codec:
    """The codec of a level, its vocabulary learnt from a text in pieces.

    Raises:
        InputError: the vocabulary is too small for the level, or the text holds nothing to learn it from.
    """
    if level == "byte":
        return Bytes()
    if level == "bpe":
        if vocabulary_size < len(Bytes()):
            raise InputError(
                f"--vocabulary-size {vocabulary_size}: expected at least {len(Bytes())} for --level bpe"
            )
        lines = chain.from_iterable(map(_LINE.findall, whole_lines(pieces)))
        return Pieces(train_tokenizer(lines, "bpe", vocabulary_size, False, min_frequency, exact=True))
    if level == "char":
        characters = chain.from_iterable(pieces)
        return Characters(Vocabulary.build(characters, min_frequency, vocabulary_size))
    found = chain.from_iterable(map(words, whole_words(pieces)))
    return Words(Vocabulary.build(found, min_frequency, vocabulary_size))


def load(level: Level, assets: Mapping[str, str], source: Path) -> Codec:
    """The codec whose `assets` these are; `source` is their folder, for errors.

    Raises:
        InputError: an asset is missing or damaged.
    """
    if level == "byte":
        return Bytes()
    name = _TOKENIZER if level == "bpe" else _VOCABULARY
    if name not in assets:
        raise InputError(
            f"{source / 'config.json'}: 'assets' lacks {name}, which a model of level {level} needs"
        )
    if level == "bpe":
        return Pieces(load_tokenizer(assets[name], str(source / name)))
    kind = Characters if level == "char" else Words
    return kind(Vocabulary.from_json(assets[name], str(source / name)))
