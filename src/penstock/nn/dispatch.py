"""One call of a module of torch.nn on Penstock's kernels, with nothing about the module changed.

`penstock.accelerate` and `penstock.accelerate_all` both end here.
"""

import sys
from typing import Any

import torch
from torch import nn

from penstock.nn import cells, layers

COUNTERPARTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: layers.RNN,
    nn.LSTM: layers.LSTM,
    nn.GRU: layers.GRU,
    nn.RNNCell: cells.RNNCell,
    nn.LSTMCell: cells.LSTMCell,
    nn.GRUCell: cells.GRUCell,
}
OURS = (layers._Recurrent, cells._RecurrentCell)

# What our classes have beyond torch's. An attribute of the user's under such a name must not get in the way.
_OWN_NAMES = {base: frozenset(dir(ours)) - frozenset(dir(base)) for base, ours in COUNTERPARTS.items()}


def base_of(cls: type) -> type[nn.Module] | None:
    """The one of torch.nn's six classes that `cls` is or is derived from."""
    return next((base for base in cls.__mro__ if base in COUNTERPARTS), None)


def forward(base: type[nn.Module], module: nn.Module, input: Any, hx: Any = None) -> Any:
    """What `base.forward(module, input, hx)` gives, base being one of torch.nn's six classes.

    Runs on the kernels, and on torch's own path for tensors they lack.
    """
    if "torch._dynamo" in sys.modules:
        # Dynamo never traces torch.nn's recurrent classes; nor must it look into what stands in for them.
        return _untraced()(base, module, input, hx)
    return _forward(base, module, input, hx)


def _forward(base: type[nn.Module], module: nn.Module, input: Any, hx: Any) -> Any:
    return COUNTERPARTS[base].forward(_view(base, module), input, hx)


_hidden: dict[str, Any] = {}


def _untraced() -> Any:
    if not _hidden:
        _hidden["forward"] = torch.compiler.disable(_forward)
    return _hidden["forward"]


def _view(base: type[nn.Module], module: nn.Module) -> nn.Module:
    """A module of our class for the time of one call, with the tensors and attributes of `module`.

    It has no part in the user's class, so that neither can disturb the other by a name of its own.
    """
    view = object.__new__(COUNTERPARTS[base])
    own_names = _OWN_NAMES[base]
    attributes = {name: value for name, value in vars(module).items() if name not in own_names}
    if "parametrizations" in module._modules:  # these weights are properties of the module's class
        for name in module._modules["parametrizations"]._modules:  # type: ignore[union-attr]
            attributes[name] = getattr(module, name)
    object.__setattr__(view, "__dict__", attributes)  # past torch's own __setattr__, which is slow
    return view
