"""Names to ids and back: vocabularies of tokens, and sets of labels."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penstock.data.lines import place
from penstock.errors import InputError

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, 1


class Vocabulary:
    """Tokens and their ids: `<pad>` is 0, `<unk>` is 1, then the tokens, the most frequent first.

    Args:
        tokens: all tokens in the order of their ids, beginning with `<pad>` and `<unk>`, none twice.
    """

    def __init__(self, tokens: Sequence[str]):
        self.tokens = list(tokens)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if self.tokens[:2] != [PAD, UNKNOWN] or len(self._ids) != len(self.tokens):
            raise ValueError(f"tokens: expected {PAD}, {UNKNOWN} and then distinct tokens")

    @classmethod
    def build(cls, tokens: Iterable[str], min_frequency: int = 1, max_size: int | None = None) -> Self:
        """Count tokens and keep those that occur at least `min_frequency` times, at most `max_size` entries.

        `max_size` counts `<pad>` and `<unk>` too. Equally frequent tokens are in alphabetical order.
        """
        counts = Counter(tokens)
        del counts[PAD], counts[UNKNOWN]
        kept = [token for token, count in counts.items() if count >= min_frequency]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls([PAD, UNKNOWN, *kept][:max_size])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def ids(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """The ids of tokens, int32 (n,); of unknown ones 1."""
        return np.array([self._ids.get(token, UNKNOWN_ID) for token in tokens], np.int32)

    def to_json(self) -> str:
        """The tokens as a JSON list."""
        return json.dumps(self.tokens, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "vocabulary.json") -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: the text is not such a list; the sentence names `source`.
        """
        tokens = _names(text, source)
        try:
            return cls(tokens)
        except ValueError as error:
            raise InputError(f"{source}: {error}") from None


class Labels:
    """The label names of a task, sorted (as numbers where all are numbers), and their ids from 0.

    Args:
        names: in the order of their ids, none twice.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._ids = {name: i for i, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            raise ValueError("names: expected distinct labels")

    @classmethod
    def collect(cls, names: Iterable[str], source: str) -> Self:
        """The distinct labels among `names`.

        Raises:
            InputError: there are fewer than two, so there is nothing to learn; the sentence names `source`.
        """
        distinct = list(dict.fromkeys(names))
        if len(distinct) < 2:
            only = f"only {distinct[0]!r}" if distinct else "none"
            raise InputError(f"{source}: expected at least two different labels, got {only}")
        return cls(sorted(distinct, key=_number if all(map(_is_number, distinct)) else None))

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def id(self, name: str, source: str, line: int) -> int:
        """The id of a label.

        Raises:
            InputError: the label is unknown; the sentence names file, line and the known labels.
        """
        known = self._ids.get(name)
        if known is None:
            shown = ", ".join(map(repr, self.names[:20])) + (", ..." if len(self) > 20 else "")
            raise InputError(f"{place(source, line)}: unknown label {name!r}; expected one of {shown}")
        return known

    def to_json(self) -> str:
        """The names as a JSON list."""
        return json.dumps(self.names, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "labels.json") -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: the text is not such a list; the sentence names `source`.
        """
        names = _names(text, source)
        try:
            return cls(names)
        except ValueError as error:
            raise InputError(f"{source}: {error}") from None


def _names(text: str, source: str) -> list[str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: not valid JSON ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{source}: expected a JSON list of strings")
    return names


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False


def _number(name: str) -> tuple[float, str]:
    return float(name), name
