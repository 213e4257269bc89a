"""One model accelerated in place: what runs where, what stays, what is said, what is undone."""

import copy
import io
import logging
import pickle
import subprocess
import sys
import threading
import warnings
from abc import ABCMeta
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic as quantized_dynamic
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import penstock
import penstock.nn
from penstock.nn.accelerate import report
from tests.nn.test_layers import assert_same, flat

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

STOCK = [
    ("RNN", {"num_layers": 2}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"proj_size": 2, "bias": False}),
    ("GRU", {"bidirectional": True}),
    ("RNNCell", {"nonlinearity": "relu"}),
    ("LSTMCell", {"bias": False}),
    ("GRUCell", {}),
]
X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


def example(module: nn.Module) -> Tensor:
    return X[0] if isinstance(module, nn.RNNCellBase) else X


# Classes of the user's, at the top of the file so that they can be pickled


class Tagged(nn.LSTM):
    """Other arguments, other results, PackedSequence inside."""

    def forward(self, words, lengths):  # type: ignore[override]
        packed = pack_padded_sequence(words, lengths, enforce_sorted=False)
        return pad_packed_sequence(super().forward(packed)[0])[0]


class Configured(nn.GRU):
    """Only a constructor of its own."""

    def __init__(self, size: int) -> None:
        super().__init__(size, 2 * size, bidirectional=True)
        self.size = size


class Stateful(nn.LSTM):
    """Attributes and methods under names that Penstock's classes use as well."""

    registry: ClassVar[list[type]] = []

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._state = None
        self.peephole = True
        self.reset_after = False

    def __init_subclass__(cls) -> None:
        Stateful.registry.append(cls)

    def _check(self) -> str:
        return "mine"

    def _run(self) -> str:
        return "mine"

    _weights = _cell = _is_stock = "mine"

    def forward(self, input, hx=None):
        output, self._state = super().forward(input, self._state if hx is None else hx)
        return output


class Child(Stateful):
    @torch.no_grad()
    def forward(self, input, hx=None):
        return 2 * super().forward(input, hx)


class Mixin:
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)  # type: ignore[misc]


class Mixed(Mixin, nn.GRU, metaclass=ABCMeta):
    pass


class Behind(nn.RNN, Mixin):
    def forward(self, input):  # type: ignore[override]
        return super(Behind, self).forward(input=input, hx=None)[0]  # noqa: UP008 - as older code has it


class NormedCell(nn.LSTMCell):
    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, input, hx=None):
        h, c = super().forward(input, hx)
        return self.norm(h), c


class Reduced(nn.GRU):
    """Says itself how it is pickled."""

    def __reduce__(self):
        return type(self), (self.input_size, self.hidden_size), self.__getstate__()


T = TypeVar("T")


class Laid(nn.RNN, Generic[T]):
    """A layout of its own."""

    __slots__ = ("extra",)

    def forward(self, input):  # type: ignore[override]
        return super().forward(input)[0]


TRACEABLE: list[tuple[Callable[[], nn.Module], tuple]] = [
    (lambda: Configured(3), (X,)),
    (lambda: Mixed(3, 4), (X,)),
    (lambda: Behind(3, 4), (X,)),
    (lambda: NormedCell(3, 4), (X[0],)),
    (lambda: Reduced(3, 4), (X,)),
    (lambda: Laid(3, 4), (X,)),
]
USERS = [*TRACEABLE, (lambda: Tagged(3, 4), (X, [3, 5])), (lambda: Child(3, 4), (X,))]


class Named(nn.GRU):
    def forward(self, input, hx=None):
        return nn.GRU.forward(self, input, hx)


class Own(nn.RNN):
    def forward(self, input):  # type: ignore[override]
        return input + 1


class Unknown(nn.RNNBase):
    def __init__(self) -> None:
        super().__init__("GRU", 3, 4)

    def forward(self, input):
        return input


class ConvLSTMCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2, 4, 3)


class LazyGRU(nn.modules.lazy.LazyModuleMixin, nn.GRU):  # type: ignore[misc]
    cls_to_become = nn.GRU  # type: ignore[assignment]

    def __init__(self, hidden_size: int) -> None:
        super().__init__(1, hidden_size)
        self.weight_ih_l0 = nn.UninitializedParameter()

    def initialize_parameters(self, input) -> None:
        self.input_size = input.shape[-1]
        self.weight_ih_l0.materialize((3 * self.hidden_size, self.input_size))  # type: ignore[union-attr]
        self.reset_parameters()


# torch.nn's own classes


@pytest.mark.parametrize(("name", "options"), STOCK, ids=str)
class TestStock:
    def test_runs_on_the_kernels_and_back(self, name: str, options: dict, kernel_calls) -> None:
        module = getattr(nn, name)(3, 4, **options)
        x = example(module)
        expected = module(x)
        parameters, attributes, cls = list(module.parameters()), dict(vars(module)), type(module)
        assert penstock.accelerate(module) is module
        assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
        assert kernel_calls(lambda: assert_same(module(x), expected)) > 0
        assert isinstance(module, getattr(penstock.nn, name))
        penstock.restore(module)
        assert type(module) is cls
        assert kernel_calls(lambda: assert_same(module(x), expected)) == 0
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[key] is attributes[key] for key in attributes if not key.startswith("_flat"))

    def test_what_projects_ask_of_it(self, name: str, options: dict) -> None:
        module = getattr(nn, name)(3, 4, **options)
        plain = copy.deepcopy(module)
        penstock.accelerate(module)
        assert isinstance(module, getattr(nn, name))
        assert isinstance(module, (nn.RNNBase, nn.RNNCellBase))
        assert getattr(nn, module._get_name()) is getattr(nn, name)
        assert type(module).__name__ == name
        assert type(module).__module__ == type(plain).__module__
        assert type(module).__qualname__ == type(plain).__qualname__
        assert repr(module) == repr(plain)
        assert type(module).__doc__ == type(plain).__doc__
        if isinstance(module, nn.RNNCellBase):
            assert module.weight_ih.shape == plain.weight_ih.shape
            return
        for attribute in (
            "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
            "bidirectional", "proj_size", "_flat_weights_names", "_all_weights", "training",
        ):  # fmt: skip
            assert getattr(module, attribute) == getattr(plain, attribute)
        assert module.all_weights[0][0].dtype == torch.float32
        assert module.all_weights[0][0] is module.weight_ih_l0 is module._flat_weights[0]
        for _ in range(2):
            module.flatten_parameters()
            assert_same(module(X), plain(X))

    def test_copies(self, name: str, options: dict, kernel_calls) -> None:
        module = penstock.accelerate(getattr(nn, name)(3, 4, **options))
        x = example(module)
        for other in copies(module):
            assert type(other) is type(module)
            assert vars(other).keys() == vars(module).keys()
            assert kernel_calls(lambda other=other: assert_same(other(x), module(x))) > 1
            penstock.restore(other)
            assert type(other) is getattr(nn, name)
            assert kernel_calls(lambda other=other: other(x)) == 0
            assert "peephole" not in vars(other)
            assert "reset_after" not in vars(other)

    def test_state_dict_both_ways(self, name: str, options: dict) -> None:
        ours = penstock.accelerate(getattr(nn, name)(3, 4, **options))
        theirs = getattr(nn, name)(3, 4, **options)
        x = example(ours)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict(), strict=True)
        assert_same(ours(x), theirs(x))
        larger = {key: value.abs() + 1 for key, value in theirs.state_dict().items()}  # no relu gives zeros
        ours.load_state_dict(larger, strict=True)
        assert not torch.equal(flat(ours(x.abs()))[0], flat(theirs(x.abs()))[0])

    def test_gradients(self, name: str, options: dict) -> None:
        theirs = getattr(nn, name)(3, 4, **options).double()
        ours = penstock.accelerate(copy.deepcopy(theirs))
        x = example(ours).double().requires_grad_()
        hx = [h.detach().requires_grad_() for h in flat(theirs(x)[1] if x.dim() == 3 else theirs(x))]
        results = []
        for module in (ours, theirs):
            outputs = flat(module(x, tuple(hx) if len(hx) == 2 else hx[0]))
            loss = torch.stack([t.square().sum() for t in outputs]).sum()
            results.append([*outputs, *torch.autograd.grad(loss, [x, *hx, *module.parameters()])])
        assert_same(results[0], results[1])

    @pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.complex64], ids=str)
    def test_another_dtype_later(self, name: str, options: dict, dtype: torch.dtype, kernel_calls) -> None:
        module = getattr(nn, name)(3, 4, **options)
        if dtype.is_complex and "nonlinearity" in options:
            pytest.skip("torch has no relu of complex numbers")
        plain = copy.deepcopy(module).to(dtype)
        penstock.accelerate(module).to(dtype)
        x = example(module).to(dtype)
        native = dtype == torch.float64
        if native:
            assert kernel_calls(lambda: assert_same(module(x), plain(x))) > 0
        else:
            assert kernel_calls(lambda: module(x)) == 0
            assert all(torch.equal(a, b) for a, b in zip(flat(module(x)), flat(plain(x)), strict=True))
        (finding,) = report(module)
        assert finding.accelerated
        assert finding.note == (
            "" if native else f"takes torch's path while its parameters are {dtype} on cpu"
        )
        if not dtype.is_complex:
            assert kernel_calls(lambda: module.float()(x.float())) > 0

    def test_another_device_later(self, name: str, options: dict) -> None:
        """The device `meta` stands for those that the kernels lack."""
        module = penstock.accelerate(getattr(nn, name)(3, 4, **options)).to("meta")
        expected = getattr(nn, name)(3, 4, device="meta", **options)
        x = example(module).to("meta")
        for a, b in zip(flat(module(x)), flat(expected(x)), strict=True):
            assert (a.device, a.shape) == (b.device, b.shape)
        assert report(module)[0].note == "takes torch's path while its parameters are torch.float32 on meta"

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_later(self, name: str, options: dict) -> None:
        module = penstock.accelerate(getattr(nn, name)(3, 4, **options))
        x = example(module)
        expected = flat(module(x))
        for a, b in zip(flat(module.cuda()(x.cuda())), expected, strict=True):
            torch.testing.assert_close(a.cpu(), b, atol=1e-4, rtol=1e-4)
        assert_same(module.cpu()(x), expected)

    def test_traced_exported_compiled(self, name: str, options: dict) -> None:
        torch.compiler.reset()
        module = penstock.accelerate(getattr(nn, name)(3, 4, **options)).eval()
        x = example(module)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about tracing and about its lists of weights
            assert_same(torch.jit.trace(module, (x,))(x), module(x))  # pyright: ignore[reportCallIssue]
            program = torch.export.export(module, (x,))
        assert any("penstock" in str(node.target) for node in program.graph.nodes)
        assert_same(program.module()(x), module(x))
        assert_same(torch.compile(module, fullgraph=True, backend="aot_eager")(x), module(x))

    def test_replicas(self, name: str, options: dict, kernel_calls) -> None:
        module = penstock.accelerate(getattr(nn, name)(3, 4, **options))
        x = example(module)
        assert kernel_calls(lambda: assert_same(replica(module)(x), module(x))) > 1


def copies(module: nn.Module) -> list[nn.Module]:
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return [
        copy.deepcopy(module),
        copy.copy(module),
        *(pickle.loads(pickle.dumps(module, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        torch.load(stream, weights_only=False),
    ]


def replica(module: nn.Module) -> nn.Module:
    """As torch.nn.parallel.replicate makes it on each device: parameters have become plain tensors."""
    made = module._replicate_for_data_parallel()
    for name, parameter in module._parameters.items():
        setattr(made, name, None if parameter is None else parameter.view_as(parameter))
    for name, child in module._modules.items():
        setattr(made, name, None if child is None else replica(child))
    return made


def test_accelerated_layers_have_what_ours_have() -> None:
    layer = penstock.accelerate(nn.LSTM(3, 4))
    y, _, cells = layer(X, lengths=[2, 5], return_cell_states=True)  # type: ignore[call-arg]
    assert not y[2:, 0].any()
    assert len(cells) == 1


@pytest.mark.parametrize("lengths", [[5, 5], [2, 5]], ids=["equal", "ragged"])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_packed_sequences(name: str, lengths: list[int], kernel_calls) -> None:
    theirs = getattr(nn, name)(3, 4, bidirectional=True)
    ours = penstock.accelerate(copy.deepcopy(theirs))
    packed = pack_padded_sequence(X, lengths, enforce_sorted=False)
    got, expected = ours(packed), theirs(packed)
    assert isinstance(got[0], PackedSequence)
    assert_same(pad_packed_sequence(got[0])[0], pad_packed_sequence(expected[0])[0])
    assert_same(got[1], expected[1])
    assert kernel_calls(lambda: ours(packed)) > 0


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_states_of_another_dtype_under_autocast(name: str, given: torch.dtype) -> None:
    """A Linear before has made the input bfloat16, the initial states are float32."""
    theirs = getattr(nn, name)(3, 4)
    ours = penstock.accelerate(copy.deepcopy(theirs))
    h = torch.zeros(1, 2, 4, dtype=given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, expected = (m(X.bfloat16(), (h, h) if name == "LSTM" else h)[0] for m in (ours, theirs))
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected.float(), rtol=0.05, atol=0.01)


# Whole models


class Model(nn.Module):
    """An encoder, one cell in two places, a buffer, and a user's class."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(3, 4, batch_first=True)
        self.cell: nn.Module = nn.GRUCell(4, 4)
        self.again = self.cell
        self.user = Stateful(4, 5)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder(x)
        h = self.again(y[:, -1], self.cell(y[:, 0]))
        self.user._state = None
        return self.user((h * self.scale)[None])


def test_a_whole_model_and_what_is_said_of_it(kernel_calls, caplog: pytest.LogCaptureFixture) -> None:
    model = Model().eval()
    expected = model(X)
    classes = {name: type(module) for name, module in model.named_modules()}
    with caplog.at_level(logging.INFO, "penstock"):
        penstock.accelerate(model)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "accelerated: encoder (LSTM)"),
        ("INFO", "accelerated: cell (GRUCell)"),
        ("INFO", "accelerated: user (Stateful)"),
    ]
    assert [tuple(finding) for finding in report(model)] == [
        ("encoder", "LSTM", True, ""),
        ("cell", "GRUCell", True, ""),
        ("user", "Stateful", True, ""),
    ]
    assert model.again is model.cell
    assert not any(module.training for module in model.modules())
    assert kernel_calls(lambda: assert_same(model(X), expected)) == 4
    once = {name: type(module) for name, module in model.named_modules()}
    penstock.accelerate(model)
    assert {name: type(module) for name, module in model.named_modules()} == once
    assert kernel_calls(lambda: assert_same(model(X), expected)) == 4
    penstock.restore(model)
    assert {name: type(module) for name, module in model.named_modules()} == classes
    assert [finding.note for finding in report(model)] == ["not accelerated"] * 3
    assert kernel_calls(lambda: assert_same(model(X), expected)) == 0


def test_a_model_without_recurrence_is_not_passed_over_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    penstock.accelerate(nn.Linear(2, 3))
    assert caplog.messages == ["nothing to accelerate: no recurrent module in Linear"]
    assert report(nn.Linear(2, 3)) == []


def test_hooks_and_optimizer_stay() -> None:
    model = Model()
    seen: list[str] = []
    model.encoder.register_forward_pre_hook(lambda module, args: seen.append("before"))
    model.encoder.register_forward_hook(lambda module, args, output: seen.append("after"))
    model.encoder.register_full_backward_hook(lambda module, d_input, d_output: seen.append("backward"))
    model.encoder.register_state_dict_pre_hook(lambda *_: seen.append("state_dict"))
    model.encoder.get_parameter("weight_ih_l0").register_hook(lambda grad: seen.append("gradient"))
    model.encoder.weight_hh_l0.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    penstock.accelerate(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(X.clone().requires_grad_()).sum().backward()
    optimizer.step()
    model.state_dict()
    assert sorted(seen) == ["after", "backward", "before", "gradient", "state_dict"]
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    # The last layer sees one step from a zero state, which has no gradient for its weight_hh.
    assert changed == before.keys() - {"encoder.weight_hh_l0", "user.weight_hh_l0"}


def test_layers_that_are_ours_stay_ours() -> None:
    model = nn.Sequential(penstock.nn.LSTM(3, 4, peephole=True), penstock.nn.GRUCell(4, 4))
    classes = [type(module) for module in model]
    penstock.restore(penstock.accelerate(model))
    assert [type(module) for module in model] == classes
    assert all(finding.accelerated for finding in report(model))


@pytest.mark.parametrize("model", [None, [nn.LSTM(2, 3)], nn.LSTM], ids=["None", "list", "class"])
@pytest.mark.parametrize("function", [penstock.accelerate, penstock.restore, report])
def test_what_is_not_a_model(function: Callable, model: object) -> None:
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got (NoneType|list|type)"):
        function(model)


def test_several_threads_at_once() -> None:
    model = penstock.accelerate(Configured(3))
    inputs = [torch.randn(5 + k, 2, 3) for k in range(4)]
    expected = [model(x)[0] for x in inputs]
    results: dict[int, list[Tensor]] = {}

    def work(k: int) -> None:
        results[k] = [model(inputs[k])[0] for _ in range(20)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, expected[k]) for k, ys in results.items() for y in ys)
    assert sorted(results) == [0, 1, 2, 3]


# Classes derived from torch.nn's


@pytest.mark.parametrize(("make", "arguments"), USERS)
class TestUserClasses:
    def test_their_call_lands_in_the_kernel(self, make, arguments: tuple, kernel_calls) -> None:
        module = make()
        cls, attributes = type(module), dict(vars(module))
        state = copy.deepcopy(module)
        expected = state(*arguments)
        penstock.accelerate(module)
        assert type(module).__name__ == cls.__name__
        assert type(module).__qualname__ == cls.__qualname__
        assert type(module).__module__ == cls.__module__
        assert module._get_name() == cls.__name__
        assert isinstance(module, cls)
        assert vars(module).keys() == attributes.keys()
        assert kernel_calls(lambda: assert_same(module(*arguments), expected)) > 0
        assert vars(module).keys() == attributes.keys()
        penstock.restore(module)
        assert type(module) is cls
        assert kernel_calls(lambda: module(*arguments)) == 0

    def test_copies(self, make, arguments: tuple, kernel_calls) -> None:
        module = make()
        cls = type(module)
        penstock.accelerate(module)
        for other in copies(module):
            assert type(other) is type(module)
            expected = copy.deepcopy(module)(*arguments)
            assert kernel_calls(lambda other=other, e=expected: assert_same(other(*arguments), e)) > 0
            assert type(penstock.restore(other)) is cls


@pytest.mark.parametrize(("make", "arguments"), TRACEABLE)
def test_user_classes_replicated_traced_exported_compiled(make, arguments: tuple, kernel_calls) -> None:
    torch.compiler.reset()
    module = penstock.accelerate(make())
    expected = module(*arguments)
    assert kernel_calls(lambda: assert_same(replica(module)(*arguments), expected)) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about tracing and about its lists of weights
        traced = torch.jit.trace(module, arguments)
        program = torch.export.export(module, arguments)
    assert_same(traced(*arguments), expected)  # pyright: ignore[reportCallIssue]
    assert_same(program.module()(*arguments), expected)
    # Dynamo sees into torch's cells, and refuses its layers, which then run as they are.
    is_cell = isinstance(module, nn.RNNCellBase)
    compiled = torch.compile(nn.Sequential(module), backend="eager", fullgraph=is_cell)
    assert (kernel_calls(lambda: assert_same(compiled(*arguments), expected)) > 0) == (not is_cell)


def test_names_of_the_users_are_the_users() -> None:
    module = penstock.accelerate(Stateful(3, 4))
    expected = penstock.restore(copy.deepcopy(module))
    assert_same(module(X), expected(X))
    assert module._check() == module._run() == module._weights == "mine"
    assert module.peephole is True
    assert_same(module(X), expected(X))  # from the state that the first call left
    assert_same(module._state, expected._state)


def test_registries_of_subclasses_do_not_see_ours() -> None:
    before = list(Stateful.registry)
    penstock.accelerate(Stateful(3, 4))
    assert Stateful.registry == before == [Child]


def test_what_was_pickled_runs_in_a_fresh_process(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    model = penstock.accelerate(nn.Sequential(nn.LSTM(3, 4)))
    torch.save((model, X, model(X)[0]), file)
    lines = [
        "import sys, torch",
        "model, x, y = torch.load(sys.argv[1], weights_only=False)",
        "torch.testing.assert_close(model(x)[0], y)",
        "import penstock, penstock.nn",
        "assert isinstance(model[0], penstock.nn.LSTM)",
        "assert type(penstock.restore(model)[0]) is torch.nn.LSTM",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# What is left, and why


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and says so
        return torch.jit.script(nn.Sequential(nn.GRUCell(3, 4)))


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.trace(nn.LSTM(3, 4).eval(), (X,)))  # type: ignore[arg-type]


def exported() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(nn.GRU(3, 4), (X,)).module()


def replaced() -> nn.Module:
    module = nn.LSTM(3, 4)
    module.forward = lambda input: input  # type: ignore[method-assign,assignment]
    return module


def hidden() -> nn.Module:
    module = nn.Module()
    module.layers = [nn.LSTM(3, 4)]  # type: ignore[assignment]
    return module


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantized_dynamic.GRUCell(3, 4)


LEFT: list[tuple[Callable[[], nn.Module], str, str]] = [
    (lambda: Named(3, 4), "the model (Named)", "calls torch.nn.GRU.forward by name, which only penstock.acc"),
    (lambda: Own(3, 4), "the model (Own)", "the forward of Own does not call super().forward"),
    (Unknown, "the model (Unknown)", "Unknown is not derived from torch.nn's RNN, LSTM, GRU or their cells"),
    (ConvLSTMCell, "the model (ConvLSTMCell)", "ConvLSTMCell is not derived from"),
    (lambda: LazyGRU(4), "the model (LazyGRU)", "its parameters are not initialized; run it once before"),
    (scripted, "0 (GRUCell)", "compiled by TorchScript; accelerate the model before"),
    (traced, "the model (LSTM)", "compiled by TorchScript; accelerate the model before"),
    (exported, "the model (GraphModule)", "a graph of torch's operators; accelerate the model before"),
    (replaced, "the model (LSTM)", "its forward has been replaced on the module itself"),
    (hidden, "layers[0] (LSTM)", "not registered as a part of the model; accelerate it by itself"),
    (quantized, "the model (GRUCell)", "rnn.GRUCell is not derived from torch.nn's RNN, LSTM"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "place", "reason"), LEFT, ids=lambda value: getattr(value, "__name__", None)
)
def test_what_is_left_and_why(make, place: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make()
    classes = [type(module) for module in model.modules()]
    penstock.accelerate(model)
    assert [type(module) for module in model.modules()] == classes
    (record,) = (record for record in caplog.records if record.name == "penstock")
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"left as it was: {place}: ")
    assert reason in record.getMessage()
    (finding,) = report(model)
    assert not finding.accelerated
    assert str(finding) in record.getMessage()


def test_a_container_named_after_its_layer_is_not_a_layer() -> None:
    class LSTMTagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.LSTM(3, 4)
            self.LearnNet = nn.Linear(3, 4)

    assert [finding.name for finding in report(penstock.accelerate(LSTMTagger()))] == ["encoder"]


def test_a_lazy_module_after_its_first_call(kernel_calls) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules are "a new feature"
        module = LazyGRU(4)
    module(X)
    penstock.accelerate(module)
    assert kernel_calls(lambda: module(X)) == 1


# Weights that are not plain parameters


@pytest.fixture(params=["stock", "user"])
def layer(request: pytest.FixtureRequest) -> nn.LSTM:
    return nn.LSTM(3, 4) if request.param == "stock" else Behaved(3, 4)


class Behaved(nn.LSTM):
    def forward(self, input, hx=None):
        return super().forward(input, hx)


def weight_normed(layer: nn.LSTM) -> None:
    parametrizations.weight_norm(layer, "weight_hh_l0")
    parametrizations.orthogonal(layer, "weight_ih_l0")


def weight_normed_by_hook(layer: nn.LSTM) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in many models
        nn.utils.weight_norm(layer, "weight_hh_l0")


def pruned(layer: nn.LSTM) -> None:
    prune.random_unstructured(layer, "weight_hh_l0", amount=0.5)


def weight_dropped(layer: nn.LSTM) -> None:
    raw = layer.get_parameter("weight_hh_l0")
    del layer._parameters["weight_hh_l0"]
    layer.register_parameter("raw", raw)

    def drop(module, _) -> None:
        mask = torch.bernoulli(torch.full_like(raw, 0.5), generator=torch.Generator().manual_seed(1))
        module.weight_hh_l0 = module.raw * mask

    layer.register_forward_pre_hook(drop)


@pytest.mark.parametrize("change", [weight_normed, weight_normed_by_hook, pruned, weight_dropped])
def test_weights_computed_in_each_call(layer: nn.LSTM, change: Callable, kernel_calls) -> None:
    change(layer)
    cls = type(layer)
    results = []
    for step in (penstock.restore, penstock.accelerate, penstock.restore):
        step(layer)
        y = layer(X)[0]
        results.append([y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
        assert (kernel_calls(lambda: layer(X)) > 0) == (step is penstock.accelerate)
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])
    assert type(layer).__mro__[1:] == cls.__mro__[1:]
    assert vars(type(layer)).keys() == vars(cls).keys()


@torch.no_grad()  # after a call with gradients torch's own parametrized layers cannot be copied
def test_parametrizations_come_and_go(layer: nn.LSTM, kernel_calls) -> None:
    cls = type(layer)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    twin = copy.deepcopy(layer)
    expected = layer(X)
    penstock.accelerate(layer)
    assert [f.accelerated for f in (*report(layer), *report(twin))] == [
        True,
        False,
    ]  # torch shares their class
    parametrizations.weight_norm(layer, "weight_ih_l0")
    assert kernel_calls(lambda: assert_same(layer(X), expected)) > 0
    assert_same(copy.deepcopy(layer)(X), expected)
    for name in ("weight_hh_l0", "weight_ih_l0"):
        nn.utils.parametrize.remove_parametrizations(layer, name)
        assert kernel_calls(lambda: assert_same(layer(X), expected)) > 0
    assert type(penstock.restore(layer)) is cls
    parametrizations.weight_norm(penstock.accelerate(layer), "weight_ih_l0")
    penstock.restore(layer)
    nn.utils.parametrize.remove_parametrizations(layer, "weight_ih_l0")
    assert type(layer) is cls
    assert kernel_calls(lambda: assert_same(twin(X), expected)) == 0


def test_functional_call(layer: nn.LSTM, kernel_calls) -> None:
    halved = {name: parameter / 2 for name, parameter in layer.named_parameters()}
    expected = torch.func.functional_call(layer, halved, (X,))
    penstock.accelerate(layer)
    assert kernel_calls(lambda: assert_same(torch.func.functional_call(layer, halved, (X,)), expected)) > 0
    assert not torch.equal(layer(X)[0], expected[0])


def test_a_trace_by_fx_keeps_the_layer_whole() -> None:
    model = penstock.accelerate(nn.Sequential(nn.LSTM(3, 4)))
    graph = torch.fx.symbolic_trace(model)
    assert isinstance(graph.get_submodule("0"), penstock.nn.LSTM)
    assert_same(graph(X), model(X))


def test_compiled_before_and_accelerated_after(kernel_calls) -> None:
    torch.compiler.reset()
    model = nn.Sequential(nn.GRU(3, 4))
    compiled = torch.compile(model, backend="eager")
    expected = compiled(X)
    penstock.accelerate(compiled)  # type: ignore[type-var]
    assert kernel_calls(lambda: assert_same(compiled(X), expected)) > 0


# Penstock's front door


def test_the_names_at_the_top() -> None:
    names = {"accelerate", "accelerate_all", "accelerated", "restore", "restore_all"}
    assert names <= set(penstock.__all__)
    assert names <= set(dir(penstock))
    assert penstock.accelerate.__module__ == "penstock.nn.accelerate"
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'speed'"):
        penstock.speed  # type: ignore[attr-defined]  # noqa: B018
