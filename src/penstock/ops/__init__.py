"""Torch operators over the native kernels: checks, dispatch, autograd, fake kernels."""

from penstock.ops.recurrence import Output as Output
from penstock.ops.recurrence import is_native as is_native
from penstock.ops.recurrence import layer as layer

__all__ = ["Output", "is_native", "layer"]
