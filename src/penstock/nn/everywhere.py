"""`accelerate_all`, `restore_all` and `accelerated`: every recurrent module of torch.nn in this process.

The attribute `forward` of the six classes is exchanged, and nothing on any module: whatever is built or run,
by whomever, under names imported long before, comes by here. Each call decides for itself where it runs.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType

import torch
from torch import nn

from penstock.nn import dispatch

log = logging.getLogger("penstock")


def accelerate_all() -> None:
    """Run every torch.nn.RNN, LSTM, GRU and cell of this process on Penstock's kernels until `restore_all()`.

    Models made before and after, by any library, and classes derived from torch.nn's that call its forward.
    It holds for all threads. Modules are not changed: what is pickled meanwhile is what it always was.
    """
    _exchange.change(until_restored=True)


def restore_all() -> None:
    """Undo `accelerate_all()`: torch.nn's own functions are back, unless an `accelerated()` is still open."""
    _exchange.change(until_restored=False)


@contextmanager
def accelerated() -> Iterator[None]:
    """`accelerate_all()` for the time of a `with` block, or, as a decorator, of a function.

    Blocks may be nested and be open in several threads at once; the last one to end puts torch.nn's own
    functions back.
    """
    _exchange.change(blocks=+1)
    try:
        yield
    finally:
        _exchange.change(blocks=-1)


class _Exchange:
    """Who wants our `forward` in torch.nn's classes, and torch's own ones as long as ours are there."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0
        self.until_restored = False
        self.on = False
        self.kept: dict[type[nn.Module], tuple[Callable, Callable]] = {}

    def change(self, *, blocks: int = 0, until_restored: bool | None = None) -> None:
        with self.lock:
            self.blocks += blocks
            if until_restored is not None:
                self.until_restored = until_restored
            wanted = self.until_restored or self.blocks > 0
            if wanted and not self.on:
                self._put_ours()
            elif self.on and not wanted:
                self._put_back()

    def _put_ours(self) -> None:
        for base in dispatch.COUNTERPARTS:
            original = vars(base)["forward"]
            ours = self._replacement(base, original)
            self.kept[base] = original, ours
            base.forward = ours
        self.on = True

    def _put_back(self) -> None:
        self.on = False  # from now on our functions do torch's work, if anybody has kept one
        for base, (original, ours) in self.kept.items():
            if vars(base)["forward"] is ours:
                base.forward = original  # type: ignore[method-assign]
            else:
                log.warning("torch.nn.%s.forward: replaced by somebody else, left so", base.__name__)
        self.kept.clear()

    def _replacement(self, base: type[nn.Module], original: Callable) -> Callable:
        run, ours, traced = dispatch.forward, dispatch.OURS, torch.compiler.is_dynamo_compiling

        def forward(module, input, hx=None):
            # A module of ours calls torch's forward where it has no kernel; Dynamo sees into torch's cells.
            if not self.on or isinstance(module, ours) or traced():
                return original(module, input, hx)
            return run(base, module, input, hx)

        # TorchScript compiles the source of `original`, and looks the names in it up in our globals.
        function = FunctionType(
            forward.__code__, original.__globals__, "forward", (None,), forward.__closure__
        )
        return functools.update_wrapper(function, original)


_exchange = _Exchange()
