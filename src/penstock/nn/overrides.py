"""Whether the forward of a class derived from torch.nn's arrives at torch's own: read from its code."""

import dis
import inspect
import itertools
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

from penstock.nn.dispatch import COUNTERPARTS, base_of


def why_not_reached(cls: type[nn.Module]) -> str:
    """Why modules of `cls` do not arrive at torch's forward by `super().forward`; empty if they do.

    cls: one of torch.nn's six recurrent classes, or derived from one.
    """
    base = base_of(cls)
    assert base is not None
    derived = cls.__mro__[: cls.__mro__.index(base)]
    for owner in derived:
        if any(_names_torchs_forward(function) for function in _functions(owner)):
            return (
                f"{owner.__name__} calls torch.nn.{base.__name__}.forward by name, "
                "which only penstock.accelerated() reaches"
            )
    overriding = [owner for owner in derived if "forward" in vars(owner)]
    if overriding and not any(_calls_super(function) for function in _functions(overriding[-1])):
        return f"the forward of {overriding[-1].__name__} does not call super().forward"
    return ""


def _functions(owner: type) -> Iterator[FunctionType]:
    """The methods of one class, out of their decorators."""
    for value in vars(owner).values():
        function = inspect.unwrap(value) if callable(value) else value
        if isinstance(function, FunctionType):
            yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _calls_super(function: FunctionType) -> bool:
    return any({"super", "forward"} <= set(code.co_names) for code in _codes(function.__code__))


def _names_torchs_forward(function: FunctionType) -> bool:
    """Whether `torch.nn.LSTM.forward` stands there, under whatever name the class was imported."""
    names = {base.__name__ for base in COUNTERPARTS}
    names |= {name for name, value in function.__globals__.items() if _is_torchs(value)}
    loaded = [
        [step.argval for step in dis.get_instructions(code) if step.opname.startswith("LOAD_")]
        for code in _codes(function.__code__)
    ]
    pairs = itertools.chain.from_iterable(map(itertools.pairwise, loaded))
    return any(second == "forward" and first in names for first, second in pairs)


def _is_torchs(value: object) -> bool:
    return isinstance(value, type) and value in COUNTERPARTS
