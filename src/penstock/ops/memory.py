"""Where every output of the operators is allocated, so that tests can poison what a kernel fails to write."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from penstock import _native

PLAIN = (Tensor, Parameter)
KEPT_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}
MANY = _native.smallest_block() // 4
"""Values from which on it is worth keeping their memory."""


def empty(shape: Sequence[int | torch.SymInt], like: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of `like`'s dtype and device.

    Large ones take memory that an earlier one has given back: fresh pages cost as much as the arithmetic.
    """
    if type(like) in PLAIN and math.prod(shape) >= MANY and like.is_cpu and like.dtype in KEPT_DTYPES:
        return _native.empty(shape, KEPT_DTYPES[like.dtype])  # type: ignore[arg-type]
    return like.new_empty(*shape)  # in two thirds of the time that a tuple takes
