"""Which forwards of derived classes arrive at torch's own."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import LSTM as TorchLSTM

from penstock.nn.overrides import why_not_reached


class Silent(nn.LSTM):
    def helper(self, x):
        return super().flatten_parameters()


class Super(nn.LSTM):
    def forward(self, input, hx=None):
        return super().forward(input, hx)


class OldSuper(nn.GRUCell):
    def forward(self, input, hx=None):
        return super(OldSuper, self).forward(input, hx)  # noqa: UP008


class Helper(nn.LSTM):
    def forward(self, input):  # type: ignore[override]
        return self.run(input)

    def run(self, input):
        return super().forward(input)


class Inner(nn.RNN):
    def forward(self, input):  # type: ignore[override]
        def run(x):
            return super(Inner, self).forward(x)

        return [run(x) for x in input]


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


class Decorated(nn.LSTM):
    @logged
    @torch.no_grad()
    def forward(self, input):  # type: ignore[override]
        return super().forward(input)


class Mentions(nn.LSTM):
    def forward(self, input, other: nn.LSTM | None = None):  # type: ignore[override]
        assert other is None or isinstance(other, nn.LSTM)
        return super().forward(input)


class OverOwn(nn.LSTM):
    """Its super().forward ends at a forward that goes no further."""

    def forward(self, input):  # type: ignore[override]
        return input


class AboveOwn(OverOwn):
    def forward(self, input):  # type: ignore[override]
        return super().forward(input)


class Named(nn.LSTM):
    def forward(self, input):  # type: ignore[override]
        return nn.LSTM.forward(self, input)


class Alias(nn.LSTM):
    def forward(self, input):  # type: ignore[override]
        if input.requires_grad:
            return super().forward(input)
        return TorchLSTM.forward(self, input)


class ByHelper(nn.LSTM):
    def forward(self, input):  # type: ignore[override]
        return self.run(input)

    def run(self, input):
        return torch.nn.modules.rnn.LSTM.forward(self, input)


class Elsewhere(nn.LSTM):
    forward = torch.nn.Linear.forward  # type: ignore[assignment]


class BuiltIn(nn.LSTM):
    forward = functools.partial(print)  # type: ignore[assignment]


@pytest.mark.parametrize(
    "cls", [nn.LSTM, nn.GRUCell, Silent, Super, OldSuper, Helper, Inner, Decorated, Mentions]
)
def test_reached(cls: type[nn.Module]) -> None:
    assert why_not_reached(cls) == ""


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (OverOwn, "the forward of OverOwn does not call super().forward"),
        (AboveOwn, "the forward of OverOwn does not call super().forward"),
        (Elsewhere, "the forward of Elsewhere does not call super().forward"),
        (BuiltIn, "the forward of BuiltIn does not call super().forward"),
        (Named, "Named calls torch.nn.LSTM.forward by name, which only penstock.accelerated() reaches"),
        (Alias, "Alias calls torch.nn.LSTM.forward by name, which only penstock.accelerated() reaches"),
        (ByHelper, "ByHelper calls torch.nn.LSTM.forward by name, which only penstock.accelerated() reaches"),
    ],
)  # fmt: skip
def test_not_reached(cls: type[nn.Module], reason: str) -> None:
    assert why_not_reached(cls) == reason
