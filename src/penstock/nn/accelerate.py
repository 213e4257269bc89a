"""`accelerate` and `restore`: the recurrent modules of one model, changed in place to run on the kernels.

Only the class of a module changes. A torch.nn.LSTM becomes a `penstock.nn.LSTM`. A class derived from
torch.nn.LSTM becomes one of the same name with one more `forward` between the user's methods and torch's, so
that `super().forward(...)` arrives there. Parameters, hooks and all other attributes stay the same objects.
"""

import logging
import re
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from penstock import ops
from penstock.nn import dispatch
from penstock.nn.everywhere import accelerate_all, accelerated, restore_all
from penstock.nn.overrides import why_not_reached

__all__ = [
    "Finding",
    "accelerate",
    "accelerate_all",
    "accelerated",
    "accelerated_class",
    "report",
    "restore",
    "restore_all",
]

log = logging.getLogger("penstock")

Model = TypeVar("Model", bound=nn.Module)


class Finding(NamedTuple):
    """What `report` says of one module."""

    name: str
    """Where it is in the model, as in `named_modules()`; empty for the model itself."""
    kind: str
    """The name of its class."""
    accelerated: bool
    """Whether its class is Penstock's."""
    note: str
    """Why it is not, or why it takes torch's path all the same; empty if there is nothing to say."""

    def __str__(self) -> str:
        place = f"{self.name or 'the model'} ({self.kind})"
        return f"{place}: {self.note}" if self.note else place


def accelerate(model: Model) -> Model:
    """Make every torch.nn.RNN, LSTM, GRU and cell in `model` run on Penstock's kernels, in place.

    Parameters, buffers, hooks, training mode, device, dtype and names stay the same objects and values, so an
    optimizer made before goes on. `isinstance(module, torch.nn.LSTM)` still holds; `type(module) is
    torch.nn.LSTM` does not. Classes derived from torch.nn's keep their own forward, which must call
    `super().forward`. Tensors that the kernels do not take go torch's way, call by call. A second call of
    `accelerate` changes nothing more.

    What was changed is logged under "penstock" at level INFO, what was left, with the reason, at WARNING;
    `penstock.nn.accelerate.report(model)` gives the same as a list.

    Returns `model`. Raises TypeError if it is not a torch.nn.Module.
    """
    _check_is_module(model)
    findings = []
    for found in _recurrent_modules(model):
        if not _is_ours(found.module) and not _obstacle(found):
            _swap(found.module, accelerated_class)
        findings.append(_finding(found))
    for finding in findings:
        level = logging.INFO if finding.accelerated else logging.WARNING
        log.log(level, "%s: %s", "accelerated" if finding.accelerated else "left as it was", finding)
    if not findings:
        log.warning("nothing to accelerate: no recurrent module in %s", type(model).__name__)
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate(model)`, also in a copy, or after pickling: every module has its own class again.

    Layers that were made as `penstock.nn`'s stay what they are. Returns `model`. Raises TypeError if it is
    not a torch.nn.Module.
    """
    _check_is_module(model)
    for module in model.modules():
        if isinstance(module, _Accelerated):
            _swap(module, lambda cls: cls._penstock_original)
    return model


def report(model: nn.Module) -> list[Finding]:
    """The recurrent modules of `model` as they stand: which are Penstock's, and why the others are not.

    Each module once, under its first name. Raises TypeError if `model` is not a torch.nn.Module.
    """
    _check_is_module(model)
    return [_finding(found) for found in _recurrent_modules(model)]


def _check_is_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")


# ---- classes -----------------------------------------------------------------------------------------------


class _Accelerated:
    """First base of every class that `accelerate` makes."""

    _penstock_original: type[nn.Module]

    def __init_subclass__(cls) -> None:
        """The user's `__init_subclass__` is not called: no registry must come to know of our classes."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as what it was, and made ours again when loaded."""
        make, arguments, *state = super().__reduce_ex__(protocol)
        original, cls = self._penstock_original, type(self)
        make, *arguments = (original if part is cls else part for part in (make, *arguments))
        return _rebuild, (make, *arguments), *state


def _rebuild(make: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    """An accelerated module out of a pickle, still without its state."""
    module = make(*arguments)
    object.__setattr__(module, "__class__", accelerated_class(type(module)))
    return module


_classes: WeakValueDictionary[type, type] = WeakValueDictionary()
_lock = threading.Lock()


def accelerated_class(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that modules of `cls`, one of torch.nn's six or derived from one, have while accelerated."""
    with _lock:
        made = _classes.get(cls)
        if made is None:
            made = _classes[cls] = _make_class(cls)
    return made


def _make_class(cls: type[nn.Module]) -> type:
    base = dispatch.base_of(cls)
    assert base is not None
    bases = (dispatch.COUNTERPARTS[base],) if cls is base else (cls, _BRIDGES[base])
    names = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "_penstock_original": cls,
    }
    return types.new_class(cls.__name__, (_Accelerated, *bases), exec_body=lambda body: body.update(names))


def _make_bridge(base: type[nn.Module]) -> type[nn.Module]:
    """Stands between a user's class and torch's, where `super().forward` looks first."""

    def forward(self, input, hx=None):
        if torch.compiler.is_dynamo_compiling():  # a cell, into whose torch operators Dynamo sees
            return base.forward(self, input, hx)
        return dispatch.forward(base, self, input, hx)

    return type(f"Accelerated{base.__name__}", (base,), {"forward": forward, "__module__": __name__})


_BRIDGES = {base: _make_bridge(base) for base in dispatch.COUNTERPARTS}


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, (_Accelerated, *dispatch.OURS))


def _swap(module: nn.Module, other: Callable[[Any], type[nn.Module]]) -> None:
    """Give a module the class `other(its class)`."""
    cls = type(module)
    if not is_parametrized(module):
        object.__setattr__(module, "__class__", other(cls))
        return
    # torch has put a class with the parametrized weights as properties in front, and will go back to the
    # first of its bases: so the exchange is one below. Copies of a module share that class, hence a new one.
    names = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    bases = (other(type_before_parametrizations(module)),)
    new = types.new_class(cls.__name__, bases, exec_body=lambda body: body.update(names))
    object.__setattr__(module, "__class__", new)


# ---- what is found in a model ------------------------------------------------------------------------------

_TORCHS = (nn.RNNBase, nn.RNNCellBase)
_NAME = re.compile(r"RNN|Rnn|LSTM|Lstm|GRU|Gru(?![a-z])|Recurrent")
_OPERATOR = re.compile(r"\b(aten[:.]+)(lstm|gru|rnn_tanh|rnn_relu)(_cell)?\b")


class _Found(NamedTuple):
    name: str
    module: nn.Module
    registered: bool


def _recurrent_modules(model: nn.Module) -> Iterator[_Found]:
    """Every recurrent module, once: torch's, ours, and whatever else looks like one by name or code."""
    named = {module: name for name, module in model.named_modules()}
    seen = set(named)
    for module, name in named.items():
        if _is_recurrent(module):
            yield _Found(name, module, registered=True)
        for place, hidden in _unregistered(module):
            if hidden not in seen and _is_recurrent(hidden):
                yield _Found(f"{name}.{place}".lstrip("."), hidden, registered=False)
            seen.add(hidden)


def _unregistered(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules in plain attributes, lists, tuples and dictionaries of `module`: unknown to torch."""
    for name, value in vars(module).items():
        if isinstance(value, nn.Module):
            yield name, value
        elif isinstance(value, (list, tuple, dict)) and name != "_modules":
            items = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}[{key!r}]", v) for key, v in items if isinstance(v, nn.Module))


def _is_recurrent(module: nn.Module) -> bool:
    if isinstance(module, _TORCHS):
        return True
    inner = (m for m in module.modules() if m is not module)
    return _looks_recurrent(module) and not any(isinstance(m, _TORCHS) or _looks_recurrent(m) for m in inner)


def _looks_recurrent(module: nn.Module) -> bool:
    names = [_kind(module), *(cls.__name__ for cls in type(module).__mro__)]
    return any(_NAME.search(name) for name in names) or bool(_OPERATOR.search(_program(module)))


def _program(module: nn.Module) -> str:
    """The code of a module that has become a graph."""
    if isinstance(module, torch.fx.GraphModule):
        return module.code
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "inlined_graph", ""))
    return ""


def _kind(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return module.original_name
    return type(module).__name__


def _finding(found: _Found) -> Finding:
    accelerated = _is_ours(found.module)
    note = _elsewhere(found.module) if accelerated else _obstacle(found) or "not accelerated"
    return Finding(found.name, _kind(found.module), accelerated, note)


def _elsewhere(module: nn.Module) -> str:
    """Whether the parameters as they are now take a module of ours to torch's path."""
    parameters = list(module.parameters())
    if not parameters or ops.is_native(parameters):
        return ""
    kinds = sorted({f"{p.dtype} on {p.device}" for p in parameters})
    return f"takes torch's path while its parameters are {', '.join(kinds)}"


def _obstacle(found: _Found) -> str:
    """Why a module of another's must stay as it is; empty if it need not."""
    module, cls = found.module, type_before_parametrizations(found.module)
    obstacles = {
        "compiled by TorchScript; accelerate the model before": isinstance(module, torch.jit.ScriptModule),
        "a graph of torch's operators; accelerate the model before": isinstance(module, torch.fx.GraphModule),
        f"{cls.__module__}.{cls.__qualname__} is not derived from torch.nn's RNN, LSTM, GRU or their cells": (
            dispatch.base_of(cls) is None
        ),
        "not registered as a part of the model; accelerate it by itself": not found.registered,
        "its forward has been replaced on the module itself": "forward" in vars(module),
        "its parameters are not initialized; run it once before": (
            isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()  # type: ignore[misc]
        ),
    }
    return next((reason for reason, applies in obstacles.items() if applies), "") or why_not_reached(cls)
