"""Lets torch.compile trace Penstock's layers.

Dynamo refuses every subclass of torch.nn.RNN, LSTM and GRU unless `torch._dynamo.config.allow_rnn` is set.
Setting it for the whole process would also unroll the user's own torch.nn layers, step by step;
so it is set only while one of our layers is being looked at. Dynamo is slow to import
and most programs never need it: the change waits until somebody else imports it.
"""

import functools
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

BUILDER = "torch._dynamo.variables.builder"


def allow_tracing(layer_class: type) -> None:
    """Have Dynamo trace into modules of `layer_class`."""
    loaded = sys.modules.get(BUILDER)
    if loaded is not None:
        _patch(loaded, layer_class)
    else:
        sys.meta_path.insert(0, _AfterImport(layer_class))


class _AfterImport(MetaPathFinder):
    """Finds nothing itself; adds a last act to the loading of the builder."""

    def __init__(self, layer_class: type) -> None:
        self.layer_class = layer_class

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _patch(module, self.layer_class)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _patch(builder: ModuleType, layer_class: type) -> None:
    from torch._dynamo import config  # noqa: PLC0415 - loaded by now

    original = builder.VariableBuilder.wrap_module

    @functools.wraps(original)
    def wrap_module(self, value):
        if not isinstance(value, layer_class):
            return original(self, value)
        with config.patch(allow_rnn=True):
            return original(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
