"""Text to ids, through the tokenizers library."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from penstock.data.vocabulary import PAD, PAD_ID, UNKNOWN, UNKNOWN_ID
from penstock.errors import InputError

Kind = Literal["word", "bpe", "char", "byte"]
Keep = Literal["head", "tail", "both"]

# Threads in the parent, none in a forked worker: the pool does not survive the fork, and without a setting
# the library prints a warning there. A user's own setting stands.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))

# Scripts written without spaces: each character is a word.
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}_\u200c\u200d&&[^{_SPACELESS}]]"
_WORD = "|".join(
    (
        rf"[{_SPACELESS}]\p{{M}}*",
        r"</?(?!pad>|unk>)\p{L}+\s*/?>",  # a markup tag, as in web text
        r"\p{N}+(?:[.,]\p{N}+)+",
        rf"{_LETTER}+(?:'{_LETTER}+)*",
        r"([^\s\p{L}\p{M}\p{N}\p{C}])\1{0,2}",  # punctuation: one, or up to three of the same
    )
)
_BYTES = 256


def train_tokenizer(
    texts: Iterable[str],
    kind: Kind = "word",
    vocabulary: int = 30_000,
    lowercase: bool = True,
    min_frequency: int = 1,
    exact: bool = False,
) -> Tokenizer:
    """Learn a vocabulary from texts, read once, one at a time.

    `<pad>` is 0 and `<unk>` 1; they are never made from text.

    Args:
        texts: one string each.
        kind: "word": words (with inner apostrophes), numbers, punctuation, and single characters of scripts
            written without spaces, such as Chinese and Japanese. "bpe": byte-pair encoding of UTF-8 bytes,
            without unknowns. "char": Unicode characters. "byte": bytes of UTF-8.
        vocabulary: at most so many ids, those of `<pad>` and `<unk>` included; the most frequent stay.
        lowercase: fold upper and lower case.
        min_frequency: of a word, a character, or (bpe) a pair to merge.
        exact: (bpe, byte) take the text as it is, so that the tokens spell it byte for byte; otherwise it is
            brought into the composed form of Unicode, and a space put before it.

    Raises:
        InputError: there is no text at all.
    """
    spelled = kind in ("bpe", "byte")
    least = 2 + (_BYTES if spelled else 1)
    if kind == "byte":
        vocabulary = least  # no place for a pair of bytes
    if vocabulary < least:
        raise InputError(f"vocabulary: expected at least {least} for {kind!r}, got {vocabulary}")
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN) if spelled else models.WordLevel(unk_token=UNKNOWN))
    folding = [normalizers.Lowercase()] if lowercase else []
    common = {
        "vocab_size": vocabulary,
        "min_frequency": min_frequency,
        "special_tokens": [PAD, UNKNOWN],
        "show_progress": False,
    }
    trainer: trainers.Trainer = trainers.WordLevelTrainer(**common)
    if kind == "word":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace("’", "'"), *folding]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    elif kind == "char":
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *folding])
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    elif spelled:
        if not exact:
            tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *folding])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=not exact)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common)
    else:
        raise ValueError(f"kind: expected 'word', 'bpe', 'char' or 'byte', got {kind!r}")
    some = False

    def stream() -> Iterator[str]:
        nonlocal some
        for text in texts:
            some = some or bool(text.strip())
            yield text

    tokenizer.train_from_iterator(stream(), trainer)
    if not some or tokenizer.get_vocab_size() < least:
        raise InputError("texts: expected text to learn a vocabulary from, got none")
    tokenizer.encode_special_tokens = True  # "<pad>" in a text is text
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer) -> str:
    """The tokenizer as JSON text in the library's own format, `tokenizer.json`."""
    return tokenizer.to_str(pretty=True)


def load_tokenizer(text: str, source: str = "tokenizer.json") -> Tokenizer:
    """The inverse of `save_tokenizer`.

    Raises:
        InputError: the text is not a tokenizer of ours; the sentence names `source`.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 - the library raises nothing more precise
        raise InputError(f"{source}: expected a tokenizer's JSON ({error})") from None
    if (tokenizer.token_to_id(PAD), tokenizer.token_to_id(UNKNOWN)) != (PAD_ID, UNKNOWN_ID):
        raise InputError(f"{source}: expected {PAD} with the id {PAD_ID} and {UNKNOWN} with {UNKNOWN_ID}")
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_batch(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int | None = None, keep: Keep = "head"
) -> list[NDArray[np.int32]]:
    """The ids of texts, int32 (n,) each, n >= 1: a text without any token becomes one `<unk>`.

    Args:
        tokenizer: from `train_tokenizer` or `load_tokenizer`.
        texts: some hundreds to thousands at a time; they are encoded on all cores.
        max_length: longer texts are cut to so many tokens; None for no limit.
        keep: which part stays: "head", "tail", or "both" (half of each).
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length: expected None or a positive number, got {max_length}")
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    rows = (np.array(encoding.ids or [UNKNOWN_ID], np.int32) for encoding in encodings)
    return [row if max_length is None else cut(row, max_length, keep) for row in rows]


def cut(row: NDArray[np.int32], length: int, keep: Keep) -> NDArray[np.int32]:
    """At most `length` ids of a row (n,), from its head, its tail or half from both."""
    if len(row) <= length:
        return row
    head = {"head": length, "tail": 0, "both": length - length // 2}[keep]
    return np.concatenate([row[:head], row[len(row) - (length - head) :]])
