"""Where every output of the operators is allocated, so that tests can poison what a kernel fails to write."""

from collections.abc import Sequence

import torch
from torch import Tensor


def empty(shape: Sequence[int | torch.SymInt], like: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of `like`'s dtype and device."""
    return torch.empty(shape, dtype=like.dtype, device=like.device)
