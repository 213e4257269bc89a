"""One call of a torch module on the kernels, the module untouched."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import penstock.nn
from penstock.nn import dispatch
from penstock.nn.accelerate import accelerated_class
from tests.nn.test_accelerate import Behaved, Child, ConvLSTMCell, Unknown, X, example
from tests.nn.test_layers import assert_same


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (nn.LSTM, nn.LSTM),
        (Child, nn.LSTM),
        (penstock.nn.GRUCell, nn.GRUCell),
        (Unknown, None),
        (ConvLSTMCell, None),
        (nn.RNNCellBase, None),
    ],
)
def test_base_of(cls: type, base: type | None) -> None:
    assert dispatch.base_of(cls) is base


@pytest.mark.parametrize("base", dispatch.COUNTERPARTS)
def test_every_class_has_its_counterpart(base: type[nn.Module]) -> None:
    ours = dispatch.COUNTERPARTS[base]
    assert (ours.__name__, base) == (base.__name__, getattr(nn, base.__name__))
    assert issubclass(ours, (base, *dispatch.OURS))


@pytest.mark.parametrize("base", dispatch.COUNTERPARTS)
def test_a_call_leaves_nothing_on_the_module(base: type[nn.Module], kernel_calls) -> None:
    module = base(3, 4)
    before = dict(vars(module))
    x, expected = example(module), module(example(module))
    assert kernel_calls(lambda: assert_same(dispatch.forward(base, module, x), expected)) == 1
    assert vars(module).keys() == before.keys()
    assert all(vars(module)[name] is value for name, value in before.items())


def test_gradients_reach_parametrized_weights() -> None:
    module = nn.GRU(3, 4)
    parametrizations.weight_norm(module, "weight_hh_l0")
    dispatch.forward(nn.GRU, module, X)[0].sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_wrong_call_is_told_as_torch_tells_it() -> None:
    with pytest.raises(
        RuntimeError, match=r"input.size\(-1\) must be equal to input_size. Expected 3, got 2"
    ):
        dispatch.forward(nn.LSTM, nn.LSTM(3, 4), torch.zeros(5, 1, 2))


def test_one_class_for_all_modules_of_a_class_and_none_for_ever() -> None:
    assert accelerated_class(Behaved) is accelerated_class(Behaved)

    def made() -> weakref.ref[type]:
        class Passing(nn.LSTM):
            pass

        accelerated_class(Passing)
        return weakref.ref(Passing)

    passing = made()
    gc.collect()  # our class
    gc.collect()  # theirs, once ours is gone
    assert passing() is None
