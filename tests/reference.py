"""The oracle ladder: random problems for a cell, what an implementation gives, and what counts as equal.

A `Problem` is a sequence with everything random: input, initial state, weights, a gradient for each output.
`evaluate(problem, function)` gives the outputs and every gradient of an implementation, a dictionary of
tensors by name. Two such dictionaries are compared by `assert_equal` (float64, rounding only) or by
`assert_as_accurate` (float32, against what plain torch operators lose). Letters as in `penstock.cells.base`.
"""

from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from penstock.cells import CELLS, Cell, State, Weights, unroll

Outputs = tuple[Tensor, State, Tensor | None]
"""y (T, B, R), the final state, the cell state of every step (T, B, H) or None."""

# (T, B, D, H): each of 1, 3, 17, 33, 130 in each place, and nothing of everything.
SIZES = [
    (1, 3, 17, 33),
    (3, 17, 33, 130),
    (17, 33, 130, 1),
    (33, 130, 1, 3),
    (130, 1, 3, 17),
    (1, 1, 1, 1),
    (17, 3, 1, 130),
    (33, 33, 33, 33),
    (3, 4, 32, 64),
    (2, 3, 5, 32),
]


class Variant(NamedTuple):
    """A cell and the optional parameters it is given."""

    name: str
    peephole: bool = False
    projection: bool = False
    bias: bool = True

    def __str__(self) -> str:
        options = (
            ["peephole"] * self.peephole + ["projection"] * self.projection + ["no bias"] * (not self.bias)
        )
        return " ".join([self.name, *options])


VARIANTS = [Variant(name, bias=bias) for name in CELLS for bias in (True, False)]
VARIANTS += [
    Variant("lstm", peephole, projection, bias)
    for peephole, projection in ((True, False), (False, True), (True, True))
    for bias in (True, False)
]


class Problem(NamedTuple):
    """A sequence for a cell, with a gradient for each output."""

    cell: Cell
    x: Tensor
    state: State
    weights: Weights
    grad_y: Tensor
    grad_state_n: State
    grad_c_steps: Tensor | None
    lengths: Tensor | None = None
    reverse: bool = False

    def map(self, function: Callable[[Tensor], Tensor]) -> "Problem":
        """The same problem with `function` applied to every floating tensor in it."""
        weights = {name: None if t is None else function(t) for name, t in self.weights._asdict().items()}
        return self._replace(
            x=function(self.x),
            state=tuple(function(t) for t in self.state),
            weights=self.weights._replace(**weights),
            grad_y=function(self.grad_y),
            grad_state_n=tuple(function(t) for t in self.grad_state_n),
            grad_c_steps=None if self.grad_c_steps is None else function(self.grad_c_steps),
        )

    def to(self, dtype: torch.dtype) -> "Problem":
        return self.map(lambda t: t.to(dtype))

    def inputs(self) -> dict[str, Tensor]:
        """What a gradient exists for, by name: x, h_0, c_0 and the weights."""
        named = {"x": self.x} | {f"{s}_0": t for s, t in zip(self.cell.state, self.state, strict=True)}
        return named | {name: t for name, t in self.weights._asdict().items() if t is not None}


def random_problem(
    variant: Variant,
    sizes: tuple[int, int, int, int],
    *,
    lengths: list[int] | None = None,
    reverse: bool = False,
    seed: int = 0,
) -> Problem:
    """A random problem in float64 of the sizes (T, B, D, H), P being about half of H.

    The weights are scaled so that what enters a gate is of the order of one: saturated gates have derivatives
    that hide a mistake or drown in rounding, and large weights let the relu network explode.
    """
    T, B, D, H = sizes
    cell = CELLS[variant.name]
    GH = len(cell.gates) * H
    R = H // 2 + 1 if variant.projection else H
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def matrix(rows: int, columns: int) -> Tensor:
        return random(rows, columns) / (2 * columns) ** 0.5

    def vector(size: int) -> Tensor:
        return random(size) / 2

    widths = {"h": R, "c": H}
    return Problem(
        cell=cell,
        x=random(T, B, D),
        state=tuple(random(B, widths[s]) for s in cell.state),
        weights=Weights(
            weight_ih=matrix(GH, D),
            weight_hh=matrix(GH, R),
            bias_ih=vector(GH) if variant.bias else None,
            bias_hh=vector(GH) if variant.bias else None,
            weight_hr=matrix(R, H) if variant.projection else None,
            weight_peephole=vector(3 * H) if variant.peephole else None,
        ),
        grad_y=random(T, B, R),
        grad_state_n=tuple(random(B, widths[s]) for s in cell.state),
        grad_c_steps=random(T, B, H) if "c" in cell.state else None,
        lengths=None if lengths is None else torch.tensor(lengths),
        reverse=reverse,
    )


def plain(problem: Problem) -> Outputs:
    """The first rung: the plain loop over the cell's step."""
    return unroll(
        problem.cell, problem.x, problem.state, problem.weights, problem.lengths, reverse=problem.reverse
    )


def torch_layer(problem: Problem) -> Outputs:
    """torch.nn's own layer, where it has one: no peepholes, no reset before, no lengths, no cell states."""
    assert problem.lengths is None
    cell, weights = problem.cell, problem.weights
    H = weights.weight_hh.shape[0] // len(cell.gates)
    options: dict = {"input_size": problem.x.shape[2], "hidden_size": H, "bias": weights.bias_ih is not None}
    if weights.weight_hr is not None:
        options["proj_size"] = len(weights.weight_hr)
    if cell.name.startswith("rnn"):
        options["nonlinearity"] = cell.name.removeprefix("rnn_")
    kind = {"rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    layer = kind[cell.name](**options, dtype=problem.x.dtype)

    parameters = {f"{name}_l0": t for name, t in weights._asdict().items() if t is not None}
    x = problem.x.flip(0) if problem.reverse else problem.x
    pair = "c" in cell.state
    h_0 = tuple(t[None] for t in problem.state)
    y, h_n = torch.func.functional_call(layer, parameters, (x, h_0 if pair else h_0[0]), strict=True)
    state_n = tuple(t[0] for t in (h_n if pair else (h_n,)))
    return y.flip(0) if problem.reverse else y, state_n, None


def evaluate(problem: Problem, function: Callable[[Problem], Outputs] = plain) -> dict[str, Tensor]:
    """The outputs of `function` and, by autograd, its gradients: "y", "h_n", "c_n", "c_steps", "grad x", ...

    `function` gets the problem with tensors that require gradients. The cell state of every step is left out
    where the problem has no gradient for it (`grad_c_steps` None).
    """
    leaves = problem.map(lambda t: t.detach().clone().requires_grad_())
    y, state_n, c_steps = function(leaves)
    outputs = _named_outputs(problem, y, state_n, c_steps)
    grad_outputs = _named_outputs(problem, problem.grad_y, problem.grad_state_n, problem.grad_c_steps)
    inputs = leaves.inputs()
    gradients = torch.autograd.grad(
        [outputs[name] for name in grad_outputs], list(inputs.values()), list(grad_outputs.values())
    )
    results = {name: t.detach() for name, t in outputs.items()}
    return results | {f"grad {name}": t for name, t in zip(inputs, gradients, strict=True)}


def evaluate_by_hand(problem: Problem) -> dict[str, Tensor]:
    """The second rung: the same from the cell's forward and hand-derived backward, without lengths."""
    assert problem.lengths is None
    assert not problem.reverse
    cell, x, state, weights = problem.cell, problem.x, problem.state, problem.weights
    y, state_n, saved = cell.forward(x, state, weights)
    c_steps = saved.c if "c" in cell.state else None
    grad_x, grad_state, grad_weights = cell.backward(
        problem.grad_y, problem.grad_state_n, problem.grad_c_steps, x, state, weights, saved
    )
    gradients = problem._replace(x=grad_x, state=grad_state, weights=grad_weights).inputs()
    results = _named_outputs(problem, y, state_n, c_steps)
    return results | {f"grad {name}": t for name, t in gradients.items()}


def _named_outputs(problem: Problem, y: Tensor, state_n: State, c_steps: Tensor | None) -> dict[str, Tensor]:
    named = {"y": y} | {f"{s}_n": t for s, t in zip(problem.cell.state, state_n, strict=True)}
    if problem.grad_c_steps is not None:
        assert c_steps is not None
        named["c_steps"] = c_steps
    return named


def error(got: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest value of `exact`; infinite if `got` is not finite."""
    assert got.shape == exact.shape, f"shape {tuple(got.shape)}, expected {tuple(exact.shape)}"
    if exact.numel() == 0:
        return 0.0
    exact = exact.double()
    difference = (got.double() - exact).abs().max().nan_to_num(nan=torch.inf)
    scale = exact.abs().max()
    return float(difference / scale if scale > 0 else difference)


def assert_equal(got: Mapping[str, Tensor], exact: Mapping[str, Tensor], tolerance: float = 1e-12) -> None:
    """The same names, and the same values up to `tolerance` of the largest: rounding in float64."""
    assert got.keys() == exact.keys()
    errors = {name: error(got[name], exact[name]) for name in exact}
    wrong = {name: e for name, e in errors.items() if not e <= tolerance}
    assert not wrong, f"relative errors above {tolerance}: {wrong}"


FLOOR = 4 * torch.finfo(torch.float32).eps
"""A relative error that is rounding in any float32 result."""


def inaccuracies(
    got: Mapping[str, Tensor], plain_float32: Mapping[str, Tensor], exact: Mapping[str, Tensor]
) -> dict[str, str]:
    """Which float32 results are too far from float64, measured by what plain torch operators lose in float32.

    The error may be twice theirs, for gradients three times, and `FLOOR` at any rate. Both errors are given.
    """
    assert got.keys() == plain_float32.keys() == exact.keys()
    wrong = {}
    for name in exact:
        ours, theirs = error(got[name], exact[name]), error(plain_float32[name], exact[name])
        factor = 3 if name.startswith("grad ") else 2
        if not ours <= max(factor * theirs, FLOOR):
            wrong[name] = f"{ours:.2e} (plain torch {theirs:.2e})"
    return wrong


def assert_as_accurate(
    got: Mapping[str, Tensor], plain_float32: Mapping[str, Tensor], exact: Mapping[str, Tensor]
) -> None:
    """No `inaccuracies`."""
    wrong = inaccuracies(got, plain_float32, exact)
    assert not wrong, f"relative errors above twice (gradients thrice) those of plain torch: {wrong}"


def assert_typically_as_accurate(
    function: Callable[[Problem], Outputs], problem_of: Callable[[int], Problem], seeds: int = 5
) -> None:
    """As `assert_as_accurate`, of the median error over several seeds.

    The largest error of one problem is a matter of luck, most of all where there are few values; that of the
    typical problem is not. `problem_of(seed)` gives a problem in float64; one of few values is tried oftener.
    """
    if problem_of(0).grad_y.numel() < 1000:
        seeds *= 5
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    for seed in range(seeds):
        problem = problem_of(seed)
        exact, single = evaluate(problem), problem.to(torch.float32)
        for errors, results in ((ours, evaluate(single, function)), (theirs, evaluate(single))):
            for name, value in results.items():
                errors.setdefault(name, []).append(error(value, exact[name]))
    for name, errors in ours.items():
        factor = 3 if name.startswith("grad ") else 2
        got, plain_torch = median(errors), median(theirs[name])
        assert got <= max(factor * plain_torch, FLOOR), f"{name}: {got:.2e} (plain torch {plain_torch:.2e})"
