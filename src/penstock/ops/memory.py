"""Where every output of the operators is allocated, so that tests can poison what a kernel fails to write."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from penstock import _native

KEPT_DTYPES = (torch.float32, torch.float64)
SMALLEST = _native.smallest_block()


def empty(shape: Sequence[int | torch.SymInt], like: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of `like`'s dtype and device.

    Large ones take memory that an earlier one has given back: fresh pages cost as much as the arithmetic.
    """
    plain = type(like) in (Tensor, Parameter) and like.is_cpu and like.dtype in KEPT_DTYPES
    if plain and math.prod(shape) * like.itemsize >= SMALLEST:
        return _native.empty(shape, like.dtype == torch.float64)  # type: ignore[arg-type]
    return like.new_empty(*shape)  # in two thirds of the time that a tuple takes
