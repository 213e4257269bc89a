"""Derivatives beyond the first, those of torch.func, and gradients of some inputs only.

The oracle is the reference, which is made of torch's own operators; second derivatives are also checked
numerically.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from penstock import _native, ops
from penstock.ops import functions, operators, reference
from tests.reference import VARIANTS, Variant, random_problem

T, B, D, H = 3, 3, 2, 3
N = 4  # places of a mapped dimension


class Case(NamedTuple):
    """A layer in a form of calling it."""

    variant: Variant
    form: str = "padded"
    directions: int = 2

    def __str__(self) -> str:
        return f"{self.variant} {self.form} {self.directions}"

    @property
    def options(self) -> ops.Options:
        return ops.Options(self.variant.name, self.directions, self.form == "batch first")

    @property
    def lengths(self) -> Tensor | None:
        return torch.tensor([3, 0, 2]) if self.form == "ragged" else None

    @property
    def batch_sizes(self) -> Tensor | None:
        return torch.tensor([3, 2, 2]) if self.form == "packed" else None

    def inputs(self, requires_grad: bool = False) -> list[Tensor]:
        """x, h0, c0 where there is one, and the weights."""
        problems = [random_problem(self.variant, (T, B, D, H), seed=d) for d in range(self.directions)]
        x = problems[0].x
        x = x.transpose(0, 1).contiguous() if self.form == "batch first" else x
        x = x.flatten(0, 1)[:7].clone() if self.form == "packed" else x
        states = [torch.stack(s) for s in zip(*(p.state for p in problems), strict=True)]
        weights = [w for p in problems for w in p.weights if w is not None]
        return [t.requires_grad_(requires_grad) for t in (x, *states, *weights)]

    def ours(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Every output that exists, by the kernels."""
        x, h0, c0, weights = self._named(inputs)
        tensors = (x, h0, c0, *weights)
        out = ops.run(
            ops.route(tensors), x, h0, c0, weights, self.lengths, self.batch_sizes, self.options, True
        )
        return tuple(out) if c0 is not None else tuple(out[:2])

    def plain(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The same, step by step."""
        x, h0, c0, weights = self._named(inputs)
        out = reference.layer(x, h0, c0, weights, self.lengths, self.batch_sizes, self.options)
        return tuple(t for t in out if t is not None)

    def _named(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None, tuple[Tensor, ...]]:
        x, h0, *rest = inputs
        return x, h0, rest.pop(0) if self.variant.name == "lstm" else None, tuple(rest)


SMALL = [v for v in VARIANTS if v.bias]
CASES = [
    *(Case(v, "ragged") for v in SMALL),
    Case(Variant("lstm", bias=False), "padded", 1),
    Case(Variant("lstm", projection=True), "packed"),
    Case(Variant("gru"), "packed", 1),
    Case(Variant("lstm", peephole=True), "batch first"),
    Case(Variant("gru_reset_before"), "batch first", 1),
]
FEW = [
    Case(Variant("lstm", peephole=True, projection=True), "ragged"),
    Case(Variant("gru"), "packed", 1),
    Case(Variant("rnn_tanh"), "batch first"),
    Case(Variant("lstm"), "packed"),
]


def assert_close(got, expected) -> None:
    got, expected = tree_leaves(got), tree_leaves(expected)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def loss(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., Tensor]:
    """A scalar of every output, with second derivatives."""
    return lambda *inputs: torch.stack([o.sin().sum() for o in function(*inputs)]).sum()


# ---- second derivatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_second_derivatives_numerically(case: Case) -> None:
    torch.autograd.gradgradcheck(case.ours, case.inputs(requires_grad=True), fast_mode=True)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_third_derivatives(case: Case) -> None:
    results = []
    for function in (case.ours, case.plain):
        inputs = case.inputs(requires_grad=True)
        value = loss(function)(*inputs)
        for _ in range(2):
            gradients = torch.autograd.grad(value, inputs, create_graph=True)
            value = torch.stack([g.square().sum() for g in gradients]).sum()
        results.append(torch.autograd.grad(value, inputs))
    assert_close(*results)


def test_gradient_penalty_of_the_input_alone() -> None:
    case = Case(Variant("lstm"))
    results = []
    for function in (case.ours, case.plain):
        x, *rest = case.inputs(requires_grad=True)
        (g,) = torch.autograd.grad(function(x, *rest)[0].sum(), x, create_graph=True)
        (g.norm() - 1).square().backward()
        results.append([t.grad for t in (x, *rest)])
    assert_close(*results)


def test_first_derivatives_never_run_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(Variant("gru"))
    inputs = case.inputs(requires_grad=True)
    for name in ("layer", "gradients", "second_gradients"):
        monkeypatch.delattr(reference, name)
    torch.autograd.grad(loss(case.ours)(*inputs), inputs, create_graph=True)
    torch.func.grad(loss(case.ours))(*inputs)


def test_compiled_second_derivatives_are_refused_in_words() -> None:
    torch.compiler.reset()
    case = Case(Variant("gru"), directions=1)
    inputs = case.inputs(requires_grad=True)
    value = torch.compile(loss(case.ours), backend="aot_eager", fullgraph=True)(*inputs)
    (g,) = torch.autograd.grad(value, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        g.sum().backward()


def test_second_derivatives_of_the_operator() -> None:
    """For tensors that stand for others, which see the operators only."""
    case = Case(Variant("lstm", peephole=True), "ragged")
    inputs = case.inputs(requires_grad=True)

    def operator(*inputs: Tensor) -> tuple[Tensor, ...]:
        x, h0, c0, weights = case._named(inputs)
        return operators.layer(x, h0, c0, weights, case.lengths, None, *case.options, True, True)[:4]

    def penalty(function: Callable) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(loss(function)(*inputs), inputs, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in gradients]).sum(), inputs)

    assert_close(penalty(operator), penalty(case.plain))


# ---- torch.func --------------------------------------------------------------------------------------------

func = torch.func
TRANSFORMS: dict[str, Callable[[Callable, list[Tensor]], object]] = {
    "grad": lambda f, i: func.grad(loss(f), tuple(range(len(i))))(*i),
    "vjp": lambda f, i: func.vjp(f, *i)[1](f(*i)),
    "jvp": lambda f, i: func.jvp(f, tuple(i), tuple(t.cos() for t in i)),
    "jacrev": lambda f, i: func.jacrev(f, (0, 1, len(i) - 1))(*i),
    "jacfwd": lambda f, i: func.jacfwd(f, (0, 1))(*i),
    "hessian": lambda f, i: func.hessian(loss(f))(*i),
    "hessian by jacrev": lambda f, i: func.jacrev(func.jacrev(loss(f)))(*i),
    "grad of grad": lambda f, i: func.grad(lambda *j: func.grad(loss(f))(*j).square().sum(), len(i) - 1)(*i),
    "vmap of inputs": lambda f, i: func.vmap(lambda x: f(x, *i[1:]), 1)(spread(i[0], 1)),
    "vmap of states": lambda f, i: func.vmap(lambda h: f(i[0], h, *i[2:]))(spread(i[1])),
    "vmap of weights": lambda f, i: func.vmap(lambda *w: f(*i[:1], *w))(*map(spread, i[1:])),
    "vmap of one weight": lambda f, i: func.vmap(lambda w: f(*i[:-1], w))(spread(i[-1])),
    "vmap of vmap": lambda f, i: func.vmap(func.vmap(lambda x: f(x, *i[1:]), 1))(spread(spread(i[0], 1))),
    "gradients of each sample": lambda f, i: func.vmap(
        func.grad(loss(f), tuple(range(len(i)))), (0, *[None] * (len(i) - 1))
    )(spread(i[0]), *i[1:]),
    "input gradients of each sample": lambda f, i: func.vmap(
        func.grad(loss(f), (0, 1)), (0, *[None] * (len(i) - 1))
    )(spread(i[0]), *i[1:]),
    "gradients of an ensemble": lambda f, i: func.vmap(
        func.grad(loss(f), (0, len(i) - 1)), (None, *[0] * (len(i) - 1))
    )(i[0], *map(spread, i[1:])),
    "penalty of each sample": lambda f, i: func.vmap(
        func.grad(lambda x: func.grad(loss(f))(x, *i[1:]).square().sum())
    )(spread(i[0])),
}  # fmt: skip


def spread(t: Tensor, dim: int = 0) -> Tensor:
    """N different ones."""
    return torch.stack([t * (1 + 0.3 * place) for place in range(N)], dim)


# torch scripts something of its own the first time that derivatives go forward.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms(case: Case, transform: str) -> None:
    inputs = case.inputs()
    apply = TRANSFORMS[transform]
    assert_close(apply(case.ours, inputs), apply(case.plain, inputs))


def test_mapped_lengths() -> None:
    case = Case(Variant("gru"), directions=1)
    x, h0, *weights = case.inputs()
    lengths = torch.tensor([[3, 1, 0], [2, 2, 2], [1, 3, 3], [0, 0, 1]])

    def ours(x: Tensor, lengths: Tensor) -> Tensor:
        route = ops.route((x, h0, *weights))
        return ops.run(route, x, h0, None, tuple(weights), lengths, None, case.options).y

    expected = [ours(x, own) for own in lengths]
    assert_close(func.vmap(ours, (None, 0))(x, lengths), torch.stack(expected))


def test_a_mapped_layer_is_one_call_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(Variant("gru"))
    x, *rest = case.inputs(requires_grad=True)
    calls = []

    def counted(*arguments) -> tuple:
        calls.append(arguments)
        return forward(*arguments)

    forward = _native.layer_forward
    monkeypatch.setattr(_native, "layer_forward", counted)
    y = func.vmap(lambda x: case.ours(x, *rest)[0])(spread(x.detach()))
    assert len(calls) == 1
    ours = torch.autograd.grad(y.sin().sum(), rest)
    expected = torch.stack([case.plain(x, *rest)[0] for x in spread(x.detach())])
    assert_close(y, expected)
    assert_close(ours, torch.autograd.grad(expected.sin().sum(), rest))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_dual_numbers() -> None:
    case = Case(Variant("lstm"), "ragged")
    torch.autograd.gradcheck(
        case.ours, case.inputs(requires_grad=True), check_forward_ad=True, check_backward_ad=False
    )


def test_batched_gradients_of_autograd() -> None:
    case = Case(Variant("gru"), "ragged")
    inputs = case.inputs(requires_grad=True)
    d_y = torch.randn(N, T, B, 2 * H, dtype=torch.float64)
    got = torch.autograd.grad(case.ours(*inputs)[0], inputs, d_y, is_grads_batched=True)
    y = case.plain(*inputs)[0]
    each = [torch.autograd.grad(y, inputs, d, retain_graph=True) for d in d_y]
    assert_close(got, [torch.stack(g) for g in zip(*each, strict=True)])


# ---- some inputs only --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [*FEW, Case(Variant("gru_reset_before")), Case(Variant("rnn_relu"))], ids=str
)
def test_each_input_alone(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same gradient as with all of them, and no memory for the gradients of the others."""
    everything = case.inputs(requires_grad=True)
    expected = torch.autograd.grad(loss(case.ours)(*everything), everything)
    for place, gradient in enumerate(expected):
        inputs = case.inputs()
        value = loss(case.ours)(*inputs[:place], inputs[place].requires_grad_(), *inputs[place + 1 :])
        given = []
        monkeypatch.setattr(
            functions, "_gradients", lambda *a, g=given, f=functions._gradients: g.append(f(*a)) or g[0]
        )
        assert_close(torch.autograd.grad(value, inputs[place]), [gradient])
        monkeypatch.undo()
        assert [g.shape for g in given[0] if g is not None] == [gradient.shape]


@pytest.mark.parametrize("case", FEW, ids=str)
def test_each_output_alone(case: Case) -> None:
    for place in range(len(case.ours(*case.inputs()))):
        results = []
        for function in (case.ours, case.plain):
            inputs = case.inputs(requires_grad=True)
            value = function(*inputs)[place].sin().sum()
            gradients = torch.autograd.grad(value, inputs, allow_unused=True)
            results.append(
                [torch.zeros_like(i) if g is None else g for i, g in zip(inputs, gradients, strict=True)]
            )
        assert_close(*results)


# ---- the graph ---------------------------------------------------------------------------------------------


def test_backward_twice_and_changed_inputs_are_errors_as_in_torch() -> None:
    case = Case(Variant("lstm"))
    inputs = case.inputs(requires_grad=True)
    value = loss(case.ours)(*inputs)
    value.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()
    value = loss(case.ours)(*inputs)
    with torch.no_grad():
        inputs[-1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    case = Case(Variant("lstm"), "ragged")
    inputs = case.inputs(requires_grad=True)
    value = checkpoint(loss(case.ours), *inputs, use_reentrant=reentrant)
    assert isinstance(value, Tensor)
    assert_close(torch.autograd.grad(value, inputs) if not reentrant else _backward(value, inputs),
                 torch.autograd.grad(loss(case.plain)(*inputs), inputs))  # fmt: skip


def _backward(value: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    value.backward()
    return [t.grad for t in inputs]


def test_gradients_that_are_views_with_a_sign() -> None:
    """What flows back through the conjugate of a complex number is a view that torch negates when read."""
    case = Case(Variant("gru"))
    results = []
    for function in (case.ours, case.plain):
        inputs = case.inputs(requires_grad=True)
        y = function(*inputs)[0]
        value = torch.view_as_real(torch.complex(torch.ones_like(y), y).conj().resolve_conj()).square().sum()
        value = value + torch.complex(y, y).conj().imag.sin().sum()
        results.append(torch.autograd.grad(value, inputs))
    assert_close(*results)
    x, *rest = case.inputs()
    negative = torch.complex(x, x).conj().imag
    assert negative.is_neg()
    assert_close(case.ours(negative, *rest), case.plain(-x, *rest))


def test_weights_in_any_layout() -> None:
    case = Case(Variant("lstm", projection=True), "ragged")
    inputs = case.inputs()
    turned = [t.T.contiguous().T if t.dim() == 2 else t for t in inputs]
    assert not turned[-1].is_contiguous()
    assert_close(case.ours(*turned), case.ours(*inputs))
    turned = [t.requires_grad_() for t in turned]
    assert_close(
        torch.autograd.grad(loss(case.ours)(*turned), turned),
        torch.autograd.grad(loss(case.plain)(*turned), turned),
    )
