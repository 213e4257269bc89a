"""Torch operators over the native kernels: checks, dispatch, autograd, fake kernels."""

from penstock.ops.layer import Output as Output
from penstock.ops.layer import is_native as is_native
from penstock.ops.layer import layer as layer

__all__ = ["Output", "is_native", "layer"]
