"""The operators as torch sees them, and what they refuse."""

import multiprocessing
import subprocess
import sys
import threading
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from penstock import _native, ops
from penstock.cells import Weights
from penstock.ops.reference import directions
from tests.reference import VARIANTS, Variant, random_problem

zeros = torch.zeros


def arguments(variant: Variant, *, directions: int = 2, lengths=None, batch_first=False, **tensors) -> tuple:
    problem = random_problem(variant, (4, 3, 5, 17)).map(lambda t: t.requires_grad_())
    state = [t.detach().expand(directions, *t.shape).clone().requires_grad_() for t in problem.state]
    h0, c0 = [*state, None][:2]
    weights = [w for w in problem.weights if w is not None] * directions
    x = problem.x.detach().transpose(0, 1).clone().requires_grad_() if batch_first else problem.x
    return (x, h0, c0, weights, lengths, None, variant.name, directions, batch_first, c0 is not None, True)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_opcheck(variant: Variant) -> None:
    _native.poison(False)  # poisoned outputs never compare equal
    opcheck(torch.ops.penstock.layer.default, arguments(variant))


def test_opcheck_ragged_batch_first() -> None:
    _native.poison(False)
    lengths = torch.tensor([4, 0, 2])
    args = arguments(Variant("lstm", peephole=True), lengths=lengths, batch_first=True)
    # The reserve holds rows for the steps that run only; the rest of it is never written.
    opcheck(
        torch.ops.penstock.layer.default,
        args,
        test_utils=["test_schema", "test_autograd_registration", "test_faketensor"],
    )


@pytest.mark.parametrize("variant", [Variant("lstm", peephole=True), Variant("gru")], ids=str)
def test_opcheck_backward(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    x, h0, c0, weights, *rest = [
        [w.detach() for w in a] if isinstance(a, list) else a.detach() if isinstance(a, torch.Tensor) else a
        for a in arguments(variant)
    ]
    y, _, c_n, c_steps, reserve = torch.ops.penstock.layer(x, h0, c0, weights, *rest)
    needs = [True, False, c0 is not None, *[k % 2 == 0 for k in range(len(weights))]]
    opcheck(
        torch.ops.penstock.layer_backward.default,
        (y, None, c_n, c_steps, x, h0, c0, weights, reserve, *rest[:5], needs),
    )


class Seen(TorchDispatchMode):
    """The operators that torch sees."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_routes() -> None:
    problem = random_problem(Variant("gru"), (4, 3, 5, 17))
    tensors = (problem.x, None, *problem.weights)
    assert ops.route(tensors) is ops.Route.DIRECT
    assert ops.route((problem.x.float(), *tensors[1:])) is ops.Route.FOREIGN
    assert ops.route((problem.x.to("meta"), *tensors[1:])) is ops.Route.FOREIGN
    assert ops.route((problem.x.half(),)) is ops.Route.FOREIGN
    assert ops.route((problem.x.as_subclass(Sub), *tensors[1:])) is ops.Route.OPERATOR
    with FakeTensorMode() as fake:
        assert ops.route((fake.from_tensor(problem.x),)) is ops.Route.OPERATOR
    with Seen() as seen:
        assert ops.route(tensors) is ops.Route.OPERATOR
        ops.layer(problem.x, None, None, [problem.weights], cell="gru")
    assert "penstock.layer.default" in seen.names
    with forward_ad.dual_level():
        assert ops.route(tensors) is ops.Route.REFERENCE
    routes = []
    torch.func.vmap(lambda x: routes.append(ops.route((x, *tensors[1:]))) or x)(problem.x)
    assert routes == [ops.Route.TRANSFORMED]


class Sub(torch.Tensor):
    """A tensor that stands for something else."""


def test_a_subclass_gives_what_its_tensor_gives() -> None:
    problem = random_problem(Variant("gru"), (4, 3, 5, 17))
    expected = ops.layer(problem.x, None, None, [problem.weights], cell="gru").y
    got = ops.layer(problem.x.as_subclass(Sub), None, None, [problem.weights], cell="gru").y
    assert torch.equal(torch.Tensor(got), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lengths": torch.tensor([1, 5, 2])}, ValueError, "values from 0 to .* 4, got 5 at index 1"),
        ({"lengths": torch.tensor([1, -1, 2])}, ValueError, "got -1 at index 1"),
        ({"lengths": torch.tensor([1, 2])}, ValueError, r"lengths: expected shape \(3,\), got \(2,\)"),
        ({"lengths": torch.tensor([1.0, 2.0, 3.0])}, TypeError, "lengths: expected a contiguous int64"),
        ({"h0": torch.zeros(1, 2, 17)}, ValueError, r"h0: expected shape \(1, 3, 17\), got \(1, 2, 17\)"),
        ({"h0": torch.zeros(1, 3, 17).double()}, TypeError, "h0: expected the dtype of x"),
        ({"x": torch.zeros(4, 3, 6)}, ValueError, r"x: expected shape \(4, 3, 5\), got \(4, 3, 6\)"),
        ({"x": torch.zeros(4, 3, 5).half()}, TypeError, "x: expected dtype float32, float64 or bfloat16"),
        ({"cell": "elman"}, ValueError, "cell: unknown name elman"),
    ],
)  # fmt: skip
def test_wrong_arguments(change: dict, error: type[Exception], message: str) -> None:
    problem = random_problem(Variant("gru"), (4, 3, 5, 17)).to(torch.float32)
    given = {"x": problem.x, "h0": None, "lengths": None, "cell": "gru"} | change
    with pytest.raises(error, match=message):
        ops.layer(
            given["x"], given["h0"], None, [problem.weights], cell=given["cell"], lengths=given["lengths"]
        )


def test_wrong_batch_sizes() -> None:
    weights = [random_problem(Variant("gru"), (1, 1, 5, 3)).weights]
    x = torch.zeros(5, 5, dtype=torch.float64)
    for sizes, message in [([3, 1], "sum of 5 rows, got 4"), ([2, 3], "never rise"), ([5, 0], "positive")]:
        with pytest.raises(ValueError, match=message):
            ops.layer(x, None, None, weights, cell="gru", batch_sizes=torch.tensor(sizes))


def test_native_takes_numpy_and_refuses_a_wrong_shape() -> None:
    weights = [np.zeros((3, 2), np.float32), np.zeros((3, 1), np.float32), None, None, None, None]
    y, h_n = np.full((4, 2, 1), np.nan, np.float32), np.full((2, 1), np.nan, np.float32)
    call: dict[str, Any] = {
        "cell": "gru", "weights": weights, "x": np.ones((4, 2, 2), np.float32), "h0": None, "c0": None,
        "y": y, "h_n": h_n, "c_n": None, "cell_states": None, "reserve": None, "lengths": None,
        "batch_sizes": None, "reverse": False, "threads": 1,
    }  # fmt: skip
    _native.forward(**call)
    assert not y.any()
    assert not h_n.any()
    call["y"] = np.zeros((4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"y: expected shape \(4, 2, 1\), got \(4, 2, 2\)"):
        _native.forward(**call)


class Older:
    """An array whose library has Python's exchange only, and none for arrays that require a gradient."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def detach(self) -> "Older":
        return Older(self.tensor.detach())

    def __dlpack__(self, **options) -> object:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def native_call(**change) -> dict[str, Any]:
    """Arguments of `_native.forward`: a GRU with T 4, B 2, D 3, H 5."""
    weights = [zeros(15, 3), zeros(15, 5), None, None, None, None]
    return {
        "cell": "gru", "weights": weights, "x": zeros(4, 2, 3), "h0": None, "c0": None, "lengths": None,
        "batch_sizes": None, "reverse": False, "threads": 1, "y": zeros(4, 2, 5), "h_n": zeros(2, 5),
        "c_n": None, "cell_states": None, "reserve": None,
    } | change  # fmt: skip


def layer_call(**change) -> dict[str, Any]:
    """Arguments of `_native.layer_forward`: the same."""
    return {
        "cell": "gru", "directions": 1, "weights": (zeros(15, 3), zeros(15, 5)), "x": zeros(4, 2, 3),
        "h0": None, "c0": None, "lengths": None, "batch_sizes": None, "batch_first": False, "threads": 1,
        "cell_states": False, "keep": False,
    } | change  # fmt: skip


class OlderTensor(torch.Tensor):
    """Of a torch whose tensors have no table of C functions."""

    __dlpack_c_exchange_api__ = None
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


@pytest.mark.parametrize("steps", [4, 40_000], ids=["small", "large enough to be kept"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_torch_without_the_fast_exchange(steps: int, bf16: bool) -> None:
    if bf16 and not _native.bf16_instruction_sets():
        pytest.skip("this processor has no products of bfloat16")
    dtype = torch.bfloat16 if bf16 else torch.float32
    tensors = [torch.randn(size).to(dtype) for size in ((steps, 2, 3), (15, 3), (15, 5))]
    results = []
    for x, *weights in (tensors, [t.as_subclass(OlderTensor) for t in tensors]):
        given = layer_call(x=x, weights=tuple(weights), keep=True)
        y, h_n, _, _, reserve = _native.layer_forward(**given)
        common = {k: v for k, v in given.items() if k not in ("cell_states", "keep")}
        gradients = _native.layer_backward(
            **common, reserve=reserve, d_y=y, d_h_n=None, d_c_n=None, d_cell_states=None,
            needs=[True, False, False, True, True],
        )  # fmt: skip
        results.append([t.as_subclass(torch.Tensor) for t in (y, h_n, reserve, *gradients) if t is not None])
    assert [t.dtype for t in results[1]] == [t.dtype for t in results[0]]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_arrays_of_libraries_without_the_fast_exchange() -> None:
    x, weights, nothing = torch.randn(4, 2, 3), [torch.randn(15, 3), torch.randn(15, 5)], [None] * 4
    y, expected = torch.zeros(4, 2, 5), torch.zeros(4, 2, 5)
    _native.forward(**native_call(x=x, weights=[*weights, *nothing], y=expected))
    older = [Older(w.requires_grad_()) for w in weights]
    _native.forward(**native_call(x=Older(x), weights=[*older, *nothing], y=Older(y)))
    assert torch.equal(y, expected)
    assert y.any()


def read_only(*shape: int) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"weights": [zeros(15, 3), zeros(5, 15).T, *[None] * 4]},
            ValueError,
            "weight_hh: expected a contig",
        ),
        ({"weights": [zeros(15, 3), *[None] * 5]}, ValueError, "expected matrices weight_ih and weight_hh"),
        ({"weights": [zeros(15, 3), zeros(15, 5)]}, ValueError, "weights: expected 6 entries, got 2"),
        ({"x": zeros(4, 3, 2).transpose(1, 2)}, ValueError, "x: expected the last dimension to be contig"),
        ({"y": zeros(4, 2, 4)}, ValueError, r"y: expected shape \(4, 2, 5\), got \(4, 2, 4\)"),
        ({"y": zeros(4, 2, 5).double()}, TypeError, "y: expected the dtype of x"),
        ({"y": None}, TypeError, "incompatible function arguments"),
        ({"y": read_only(4, 2, 5)}, TypeError, "y: expected a writable array"),
        ({"h_n": zeros(1, 2, 5)}, ValueError, r"h_n: expected shape \(2, 5\), got \(1, 2, 5\)"),
        ({"cell_states": zeros(4, 2, 5)}, ValueError, "cell_states: expected None"),
        ({"reserve": zeros(3)}, ValueError, "reserve: expected .* values a direction, got 3"),
    ],
    ids=str,
)
def test_the_kernels_refuse_what_would_be_read_out_of_bounds(change: dict, error: Any, message: str) -> None:
    _native.forward(**native_call())
    with pytest.raises(error, match=message):
        _native.forward(**native_call(**change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"directions": 3}, ValueError, "directions: expected 1 or 2, got 3"),
        ({"directions": 2}, ValueError, "weights: expected 2 to 6 for each direction, got 2"),
        ({"weights": (zeros(15, 3), zeros(10, 5))}, ValueError, r"weight_hh: expected shape \(15, 5\)"),
        ({"weights": (zeros(15, 3), zeros(15, 4))}, ValueError, "weight_hh: expected 5 columns, got 4"),
        ({"weights": (zeros(15, 3), None)}, ValueError, "expected matrices weight_ih and weight_hh"),
        ({"weights": (zeros(15, 3), zeros(15))}, ValueError, "expected matrices weight_ih and weight_hh"),
        ({"weights": (zeros(15, 3), zeros(15, 5), zeros(15))}, ValueError, "gru_peephole"),
        ({"weights": (zeros(15, 3), zeros(15, 5), zeros(5, 5))}, ValueError, "weight_hr"),
        ({"x": None}, TypeError, "incompatible function arguments"),
        ({"x": "text"}, TypeError, "x: expected an array on the CPU"),
        ({"x": zeros(4, 2, 3, device="meta")}, (RuntimeError, TypeError, BufferError), "meta|CPU|storage"),
        ({"x": zeros(4, 2, 3).int()}, TypeError, "x: expected dtype float32, float64 or bfloat16"),
        ({"x": zeros(4)}, ValueError, "x: expected 3 dimensions, got 1"),
        ({"x": zeros(4, 2)}, ValueError, r"x: expected shape \(4, 3\), got \(4, 2\)"),
        ({"x": zeros(4, 2, 4)}, ValueError, r"x: expected shape \(4, 2, 3\), got \(4, 2, 4\)"),
        ({"c0": zeros(1, 2, 5)}, ValueError, "c0: expected None, the cell gru has no cell state"),
        ({"lengths": torch.tensor([4, 2], dtype=torch.int32)}, TypeError, "a contiguous int64 vector"),
        ({"lengths": torch.tensor([[4, 2]])}, TypeError, "a contiguous int64 vector"),
        ({"x": zeros(8, 3), "batch_sizes": torch.tensor([-1])}, ValueError, "positive values"),
        ({"cell": "elman"}, ValueError, "cell: unknown name elman"),
    ],
    ids=str,
)  # fmt: skip
def test_a_layer_refuses_what_would_be_read_out_of_bounds(change: dict, error: Any, message: str) -> None:
    _native.layer_forward(**layer_call())
    with pytest.raises(error, match=message):
        _native.layer_forward(**layer_call(**change))


def test_the_backward_pass_asks_of_every_input_whether_it_needs_a_gradient() -> None:
    given = layer_call(keep=True)
    *_, reserve = _native.layer_forward(**given)
    common = {k: v for k, v in given.items() if k not in ("cell_states", "keep")}
    d_outputs: dict[str, Any] = {"d_y": zeros(4, 2, 5), "d_h_n": None, "d_c_n": None, "d_cell_states": None}
    with pytest.raises(ValueError, match="needs: expected 5 entries, got 3"):
        _native.layer_backward(**common, reserve=reserve, **d_outputs, needs=[True] * 3)
    needs = [False, True, True, False, True]
    gradients = _native.layer_backward(**common, reserve=reserve, **d_outputs, needs=needs)
    assert [g if g is None else tuple(g.shape) for g in gradients] == [None, None, None, None, (15, 5)]


def test_a_peephole_is_for_the_peephole_cell_alone() -> None:
    weights = [zeros(20, 3), zeros(20, 5), None, None, None, zeros(15)]
    call: dict[str, Any] = {
        "weights": weights, "x": zeros(4, 2, 3), "h0": None, "c0": None, "y": zeros(4, 2, 5),
        "h_n": zeros(2, 5), "c_n": zeros(2, 5), "cell_states": None, "reserve": None, "lengths": None,
        "batch_sizes": None, "reverse": False, "threads": 1,
    }  # fmt: skip
    _native.forward(cell="lstm_peephole", **call)
    with pytest.raises(ValueError, match="weight_peephole"):
        _native.forward(cell="lstm", **call)
    call["weights"] = [*weights[:5], None]
    with pytest.raises(ValueError, match="weight_peephole"):
        _native.forward(cell="lstm_peephole", **call)


def test_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*baseline, got sse9"):
        _native.set_instruction_set("sse9")


def _result() -> torch.Tensor:
    problem = random_problem(Variant("lstm"), (17, 13, 33, 65)).to(torch.float32)
    return ops.layer(problem.x, None, None, [problem.weights], cell="lstm").y


def test_several_threads_at_once() -> None:
    expected, results = _result(), []
    threads = [threading.Thread(target=lambda: results.append(_result())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(torch.equal(r, expected) for r in results)


def _in_child(queue, threads: int) -> None:
    torch.set_num_threads(threads)
    queue.put(_result().double().sum().item())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_after_threads_ran_in_the_parent() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = _result().double().sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, 2))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()
    torch.set_num_threads(before)


def test_weights_are_told_apart_by_shape() -> None:
    for variant in VARIANTS:
        weights = random_problem(variant, (1, 1, 3, 5)).weights
        flat = [w for w in weights if w is not None]
        (named,) = directions(flat, 1)
        assert all(a is b for a, b in zip(named, weights, strict=True)), variant
        assert isinstance(named, Weights)


class TestWhole:
    """A call that finds its weights itself, against the one that is handed everything."""

    NAMES: ClassVar = [["weight_ih", "weight_hh", "bias_ih", "bias_hh"]]

    def problem(self, steps: int = 3, rows: int = 2, directions: int = 1):
        torch.manual_seed(0)
        names = [[f"{name}{suffix}" for name in self.NAMES[0]] for suffix in ("", "_reverse")[:directions]]
        shapes = [(40, 5), (40, 10), (40,), (40,)]
        weights = [Weights(*(torch.randn(shape) for shape in shapes)) for _ in range(directions)]
        pairs = zip(names, weights, strict=True)
        parameters = {
            n: Parameter(w)
            for own, each in pairs
            for n, w in zip(own, each[:4], strict=True)
            if w is not None
        }
        h0, c0 = torch.randn(2, directions, rows, 10)
        return parameters, names, weights, torch.randn(steps, rows, 5), h0, c0

    @pytest.mark.parametrize("batch_first", [False, True])
    @pytest.mark.parametrize("directions", [1, 2])
    @pytest.mark.parametrize(("steps", "rows"), [(1, 1), (3, 2), (200, 200)])
    def test_gives_what_a_layer_gives(
        self, steps: int, rows: int, directions: int, batch_first: bool
    ) -> None:
        """Also where its memory had something else in it: the last one is large enough to be kept."""
        parameters, names, weights, x, h0, c0 = self.problem(steps, rows, directions)
        x = x.transpose(0, 1).contiguous() if batch_first else x
        for hx in ((h0, c0), [h0, c0], None):
            h, c = hx or (None, None)
            expected = ops.layer(x, h, c, weights, cell="lstm", batch_first=batch_first)
            _native.empty([steps, rows, 10 * directions], "float32").fill_(torch.nan)
            for grad in (False, True):
                with torch.set_grad_enabled(grad):
                    got = ops.whole("lstm", parameters, names, x, hx, 3, batch_first)
                assert got is not None
                for a, b in zip((got[0], *got[1]), expected[:3], strict=True):
                    assert a.requires_grad == grad
                    assert torch.equal(a, b)

    @pytest.mark.parametrize("rows", [1, 2, 40])
    def test_a_single_step_is_a_sequence_of_one(self, rows: int) -> None:
        """The same bits, forward and backward, without the first dimension."""
        parameters, names, _, x, h0, c0 = self.problem(1, rows)
        inputs = [t.requires_grad_() for t in (x, h0, c0, *parameters.values())]
        for hx, row in (((h0, c0), (h0[0], c0[0])), (None, None)):
            with torch.no_grad():
                inferred = ops.whole("lstm", parameters, names, x[0], row, 2, False)
            expected = ops.whole("lstm", parameters, names, x, hx, 3, False)
            got = ops.whole("lstm", parameters, names, x[0], row, 2, False)
            assert inferred is not None
            assert got is not None
            assert expected is not None
            assert inferred[0] is got[0] is None
            d_h, d_c = torch.randn(2, rows, 10)
            wanted = inputs[:3] if hx is not None else inputs[:1]
            wanted = [*wanted, *inputs[3:]]
            results = []
            for (_, (h, c)), d in ((expected, (d_h[None], d_c[None])), (got, (d_h, d_c))):
                results.append([h.view(rows, 10), c.view(rows, 10), *torch.autograd.grad([h, c], wanted, d)])
            assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(inferred[1], got[1], strict=True))

    @pytest.mark.parametrize("grad", [False, True])
    def test_cells_without_a_cell_state_have_one_state(self, grad: bool) -> None:
        parameters = {"ih": torch.randn(10, 5), "hh": torch.randn(10, 10)}
        names, x, h0 = [["ih", "hh"]], torch.randn(3, 2, 5), torch.randn(1, 2, 10)
        with torch.set_grad_enabled(grad):
            found = ops.whole("rnn_tanh", parameters, names, x, h0, 3, False)
            assert ops.whole("rnn_tanh", parameters, names, x, (h0, h0), 3, False) is None
        assert found is not None
        y, h_n = found
        assert torch.equal(y[-1], h_n[0])

    @pytest.mark.parametrize("grad", [False, True])
    def test_tensors_in_any_memory(self, grad: bool) -> None:
        parameters, names, _, x, h0, c0 = self.problem()
        with torch.set_grad_enabled(grad):
            expected = ops.whole("lstm", parameters, names, x, (h0, c0), 3, False)
            parameters = {
                name: Parameter(p.mT.contiguous().mT if p.dim() == 2 else p) for name, p in parameters.items()
            }
            rows = h0.new_zeros(*h0.shape[:2], 20)
            rows[..., ::2] = h0
            got = ops.whole("lstm", parameters, names, x.mT.contiguous().mT, (rows[..., ::2], c0), 3, False)
        assert expected is not None
        assert got is not None
        assert torch.equal(got[0], expected[0])
        assert all(torch.equal(a, b) for a, b in zip(got[1], expected[1], strict=True))

    @pytest.mark.parametrize("grad", [False, True])
    def test_leaves_everything_else_to_others(self, grad: bool) -> None:
        parameters, names, _, x, h0, c0 = self.problem()

        def whole(x: Any = x, h0: Any = h0, **changed):
            return ops.whole("lstm", parameters | changed, names, x, (h0, c0), 3, False)

        negated = Parameter(torch.randn(40, 10, dtype=torch.complex64).conj().imag)
        with torch.set_grad_enabled(grad):
            assert whole() is not None
            assert whole(x=x[0]) is None
            assert whole(x=x[0, 0]) is None
            assert whole(x=[1.0]) is None
            assert whole(h0=None) is None
            assert whole(weight_hh=negated) is None
            assert ops.whole("lstm", parameters, names, x, h0, 3, False) is None
            assert ops.whole("lstm", parameters, names, x, (h0, c0, c0), 3, False) is None
            with torch.autocast("cpu"):
                assert whole() is None
            assert whole(x=x[:0]) is None
            assert whole(h0=h0.double()) is None
            assert whole(x=x.half()) is None
            assert whole(x=torch._neg_view(x)) is None
            assert whole(x=x.to("meta")) is None
            assert whole(bias_ih=None) is None
            assert whole(bias_hh=parameters["bias_hh"].as_subclass(Mine)) is None
            del parameters["weight_hh"]
            assert whole() is None

    def test_a_wrong_shape_is_a_mistake(self) -> None:
        parameters, names, _, x, h0, c0 = self.problem()
        with torch.no_grad(), pytest.raises(ValueError, match="h0: expected shape"):
            ops.whole("lstm", parameters, names, x, (h0[..., :4].contiguous(), c0), 3, False)
        with torch.no_grad(), pytest.raises(ValueError, match="h0: expected shape"):
            ops.whole("lstm", parameters, names, x[0], (h0, c0), 2, False)


class Mine(torch.Tensor):
    pass


def test_a_process_ends_without_a_word() -> None:
    """The bindings tell of every object that outlives the interpreter."""
    program = (
        "import torch, penstock.nn\n"
        "layer = penstock.nn.LSTM(4, 4)\n"
        "layer(torch.randn(3, 2, 4))[0].sum().backward()\n"
        "layer.requires_grad_(False)(torch.randn(3, 2, 4))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
