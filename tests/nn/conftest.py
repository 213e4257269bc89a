"""What the tests of the layers share."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from penstock import _native
from penstock.ops import functions


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], int]:
    """`kernel_calls(f)`: how often f() ran a kernel forward in this thread."""
    calls: Counter[int] = Counter()

    def counting(function: Callable) -> Callable:
        def counted(*args, **kwargs):
            before = calls[threading.get_ident()]
            result = function(*args, **kwargs)
            # A layer that is no plain one declines; of one that autograd looks at, another has counted.
            ran = result is not None and calls[threading.get_ident()] == before
            calls[threading.get_ident()] += ran
            return result

        return counted

    monkeypatch.setattr(_native, "layer_forward", counting(_native.layer_forward))
    monkeypatch.setattr(_native.Plain, "run", counting(_native.Plain.run))
    monkeypatch.setattr(functions.PlainLayer, "forward", counting(functions.PlainLayer.forward))

    def count(f: Callable[[], Any]) -> int:
        before = calls[threading.get_ident()]
        f()
        return calls[threading.get_ident()] - before

    return count
