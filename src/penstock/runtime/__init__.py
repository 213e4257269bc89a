"""Trained layers on NumPy arrays, without torch: the same kernels, step by step or a sequence at a time."""

from penstock.runtime.layer import Layer

__all__ = ["Layer"]
