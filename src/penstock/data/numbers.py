"""Numbers written as text, to finite float32."""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.errors import InputError

LARGEST = float(np.finfo(np.float32).max)
# How files write that a number is missing, in lower case.
MISSING = ("", "?", "-", "na", "n/a", "nan", "null", "none")


def is_number(text: str) -> bool:
    """Whether `text` is a number, infinity or NaN."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_float32(texts: Sequence[str], where: Callable[[int], str]) -> NDArray[np.float32]:
    """n texts as float32 (n,).

    Args:
        texts: one number each.
        where: says where the i-th stands, for the error.

    Raises:
        InputError: one of them is missing, not a number, not finite, or too large for float32.
    """
    with contextlib.suppress(ValueError), np.errstate(over="ignore"):
        numbers = np.array([float(text) for text in texts]).astype(np.float32)
        if np.isfinite(numbers).all():
            return numbers
    return np.array([to_finite(text, where(i)) for i, text in enumerate(texts)], np.float32)


def to_finite(text: str, where: str) -> float:
    """One number.

    Raises:
        InputError: as `to_float32`.
    """
    if not is_number(text):
        got = "a missing value" if text.strip().lower() in MISSING else repr(text)
        raise InputError(f"{where}: expected a number, got {got}")
    number = float(text)
    if not abs(number) <= LARGEST:
        raise InputError(f"{where}: expected a finite number, got {text.strip()}")
    return number
