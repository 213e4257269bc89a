"""What the tests of the layers share."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from penstock import _native


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], int]:
    """`kernel_calls(f)`: how often f() ran a kernel forward in this thread."""
    calls: Counter[int] = Counter()

    def counting(function: Callable) -> Callable:
        def counted(*args, **kwargs):
            result = function(*args, **kwargs)
            declined = function.__name__ == "infer" and result is None
            calls[threading.get_ident()] += not declined
            return result

        return counted

    for name, function in list(vars(_native).items()):
        if "forward" in name:
            monkeypatch.setattr(_native, name, counting(function))
    monkeypatch.setattr(_native.Plain, "infer", counting(_native.Plain.infer))

    def count(f: Callable[[], Any]) -> int:
        before = calls[threading.get_ident()]
        f()
        return calls[threading.get_ident()] - before

    return count
