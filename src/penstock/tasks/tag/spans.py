"""Labels that mark spans of tokens: their schemes, which label may follow which, and how spans are counted.

A label is a prefix and a type, "B-person", or a prefix alone. Three schemes are known:

    bio    (IOB2)          B begins a span, I continues it, O is outside
    iob1   (CoNLL-2003)    I is inside; B begins only a span that touches one of the same type before it
    iobes  (BIOES, BILOU,  as bio, and E (or L) ends a span of several tokens, S (or U) is a span of one;
            BMES)          M is another name for I

Spans are read as conlleval reads them (Tjong Kim Sang & Buchholz 2000), which gives a meaning to invalid
sequences too: a span starts wherever the type changes, so "O I-x" and "B-x I-y" both hold a span at the
second label. With this reading all three schemes are counted by one rule.

Dimensions: B batch, T time, K labels, C span types.
"""

from collections import Counter
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scheme = Literal["bio", "iob1", "iobes"]
OUTSIDE = "O"

_ROLES = {"O": "O", "B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
_NO_TYPE = "_"


class Part(NamedTuple):
    """What a label says: its role in a span (B, I, E, S or O) and the type of the span."""

    role: str
    type: str

    def touches(self, after: "Part") -> bool:
        """Whether `after`, the next label, may belong to the same span as this one."""
        outside = self.role in "ESO" or after.role in "BSO"
        return not outside and self.type == after.type


_EDGE = Part("O", _NO_TYPE)


def parse(label: str) -> Part | None:
    """The role and type of a label, or None if it does not mark spans."""
    prefix, _, kind = label.partition("-")
    role = _ROLES.get(prefix)
    if role is None or (role == "O" and kind):
        return None
    return Part(role, kind or _NO_TYPE)


def detect_scheme(pairs: Counter[tuple[str, str]]) -> Scheme | None:
    """The scheme of labelled data, or None if its labels do not mark spans.

    Args:
        pairs: how often each label follows each other one; the first of a sentence follows "O".
    """
    parts = {label: parse(label) for pair in pairs for label in pair}
    roles = {part.role for part in parts.values() if part}
    if None in parts.values() or not roles & {"B", "I"}:
        return None
    if roles & {"E", "S"}:
        return "iobes"
    begun_by: Counter[str] = Counter()
    for (before, label), count in pairs.items():
        previous, part = parts[before], parts[label]
        if previous and part and part.role != "O" and not previous.touches(part):
            begun_by[part.role] += count
    return "iob1" if begun_by["I"] > begun_by["B"] else "bio"


def allowed_transitions(labels: list[str], scheme: Scheme) -> Tensor:
    """Which label may follow which in a valid sequence.

    Returns:
        bool (K+1, K+1): row before, column after; the last row stands for the start of a sentence, the last
        column for its end.
    """
    parts = [*_parts(labels), _EDGE]
    return torch.tensor([[_may_follow(before, after, scheme) for after in parts] for before in parts])


def _may_follow(before: Part, after: Part, scheme: Scheme) -> bool:
    inside_same = before.role in "BI" and before.type == after.type
    if scheme == "iob1":
        return after.role != "B" or inside_same
    if after.role in "IE":
        return inside_same
    return scheme == "bio" or before.role not in "BI"


def _parts(labels: list[str]) -> list[Part]:
    parts = []
    for label in labels:
        part = parse(label)
        if part is None:
            raise ValueError(f"labels: expected O or a prefix of B, I, M, E, L, S, U, got {label!r}")
        parts.append(part)
    return parts


class SpanCounter:
    """Counts spans in batches of label numbers.

    Attributes:
        types: the C span types, sorted.
    """

    def __init__(self, labels: list[str]):
        parts = [*_parts(labels), _EDGE]  # number K stands for what lies outside the sentence
        self.types = sorted({part.type for part in parts if part.role != "O"})
        numbers = {kind: number for number, kind in enumerate(self.types)}
        self._edge = len(labels)
        self._inside = torch.tensor([part.role != "O" for part in parts])
        self._type = torch.tensor([numbers[part.type] if part.role != "O" else -1 for part in parts])
        self._boundary = torch.tensor([[not before.touches(after) for after in parts] for before in parts])

    def count(self, predicted: Tensor, gold: Tensor, mask: Tensor) -> Tensor:
        """Count the spans of each type.

        Args:
            predicted, gold: label numbers, int64 (B, T).
            mask: bool (B, T), True where there is a token.

        Returns:
            int64 (3, C): spans found that are right in start, end and type; spans predicted; spans in gold.
        """
        found, true = self._spans(predicted, mask), self._spans(gold, mask)
        right = found.starts & true.starts & (found.end == true.end) & (found.type == true.type)
        kinds = [found.type[right], found.type[found.starts], true.type[true.starts]]
        return torch.stack([torch.bincount(kind, minlength=len(self.types)) for kind in kinds])

    def _spans(self, labels: Tensor, mask: Tensor) -> "_Spans":
        device = labels.device
        boundary, inside = self._boundary.to(device), self._inside.to(device)
        labels = labels.masked_fill(~mask, self._edge)
        edge = labels.new_full((len(labels), 1), self._edge)
        before, after = torch.cat([edge, labels[:, :-1]], 1), torch.cat([labels[:, 1:], edge], 1)
        starts = inside[labels] & boundary[before, labels]
        ends = inside[labels] & boundary[labels, after]
        steps = torch.arange(labels.shape[1], device=device)
        next_end = torch.where(ends, steps, len(steps)).flip(1).cummin(1).values.flip(1)
        return _Spans(starts, next_end, self._type.to(device)[labels])


class _Spans(NamedTuple):
    starts: Tensor  # bool (B, T): a span starts here
    end: Tensor  # int64 (B, T): the last step of the span that covers this step, if one does
    type: Tensor  # int64 (B, T): its type
