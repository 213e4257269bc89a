"""torch.autocast on the CPU, as torch's own lower-precision operators have it: what comes in is cast."""

import contextlib
from typing import Any

import torch
from torch import Tensor

LOWERED = (torch.float32, torch.float16, torch.bfloat16)
"""float64 is left as it is, as torch does."""


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype that autocast wants a call on `x` computed in, or None to leave everything as it is."""
    if not torch.is_autocast_enabled("cpu") or not x.is_cpu or x.dtype not in LOWERED:
        return None
    return torch.get_autocast_dtype("cpu")


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Every tensor in nested lists and tuples as `dtype`, differentiably: each gradient in its own."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype in LOWERED else value
    return value if value is None else type(value)(cast(v, dtype) for v in value)


def without_autocast(x: Tensor) -> contextlib.AbstractContextManager:
    """For torch's own path: what went in has been cast, and is not to be cast again."""
    if autocast_dtype(x) is None:
        return contextlib.nullcontext()
    return torch.autocast("cpu", enabled=False)
