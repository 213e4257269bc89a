"""Every recurrent module of the process: what is reached while it is on, and that nothing stays behind."""

import copy
import pickle
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import GRU, LSTM, GRUCell, LSTMCell, RNNCell  # names imported before, as a library has them
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import penstock
from tests.nn.test_accelerate import (
    STOCK,
    TRACEABLE,
    USERS,
    Behaved,
    Model,
    Named,
    Stateful,
    X,
    example,
    replica,
)
from tests.nn.test_layers import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

CLASSES = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)
ORIGINAL = [vars(cls)["forward"] for cls in CLASSES]


def is_as_it_was() -> bool:
    return all(vars(cls)["forward"] is function for cls, function in zip(CLASSES, ORIGINAL, strict=True))


@pytest.fixture(autouse=True)
def torch_is_as_it_was() -> Iterator[None]:
    assert is_as_it_was()
    yield
    penstock.restore_all()
    assert is_as_it_was()


@pytest.mark.parametrize(("name", "options"), STOCK, ids=str)
def test_every_class_of_torch(name: str, options: dict, kernel_calls) -> None:
    module = getattr(nn, name)(3, 4, **options)
    x, attributes = example(module), dict(vars(module))
    expected = module(x)
    with penstock.accelerated():
        assert kernel_calls(lambda: assert_same(module(x), expected)) > 0
        assert kernel_calls(lambda: getattr(nn, name)(3, 4, **options)(x)) > 0
        assert kernel_calls(lambda: assert_same(replica(module)(x), expected)) > 0
        assert type(module) is getattr(nn, name)
    assert kernel_calls(lambda: assert_same(module(x), expected)) == 0
    assert vars(module).keys() == attributes.keys()
    assert all(vars(module)[key] is value for key, value in attributes.items())


@pytest.mark.parametrize(("make", "arguments"), [*USERS, (lambda: Named(3, 4), (X,))])
def test_classes_of_the_users(make, arguments: tuple, kernel_calls) -> None:
    module = make()
    expected = copy.deepcopy(module)(*arguments)
    with penstock.accelerated():
        assert kernel_calls(lambda: assert_same(module(*arguments), expected)) > 0
    assert kernel_calls(lambda: module(*arguments)) == 0


def test_names_of_the_users_are_the_users() -> None:
    module = Stateful(3, 4)
    expected = copy.deepcopy(module)
    with penstock.accelerated():
        first = module(X)
        assert module.peephole is True
        assert module._check() == "mine"
        assert_same([first, module(X)], [expected(X), expected(X)])


class Library:
    """Builds its model in its own fit(), with names that it imported long before."""

    def fit(self, x: Tensor) -> None:
        self.rnn, self.cells = LSTM(3, 4), [GRUCell(4, 4), RNNCell(4, 4)]
        self.last = LSTMCell(4, 4)
        self.result = self.run(x)

    def run(self, x: Tensor) -> Tensor:
        h = self.rnn(x)[0][-1]
        for cell in self.cells:
            h = cell(h)
        return self.last(h)[0]


def test_a_library_that_builds_its_own_model(kernel_calls) -> None:
    library = Library()
    with penstock.accelerated():
        assert kernel_calls(lambda: library.fit(X)) == 4
        inside = library.result
    assert kernel_calls(lambda: assert_same(library.run(X), inside)) == 0
    penstock.accelerate_all()
    assert kernel_calls(lambda: assert_same(library.run(X), inside)) == 4
    penstock.restore_all()
    assert kernel_calls(lambda: assert_same(library.run(X), inside)) == 0


def test_nested_and_after_an_error() -> None:
    with pytest.raises(KeyError), penstock.accelerated():  # noqa: PT012
        with penstock.accelerated():
            assert not is_as_it_was()
        assert not is_as_it_was()
        raise KeyError
    assert is_as_it_was()


def test_on_until_restored_and_blocks_go_together() -> None:
    penstock.accelerate_all()
    penstock.accelerate_all()
    with penstock.accelerated():
        pass
    assert not is_as_it_was()
    with penstock.accelerated():
        penstock.restore_all()
        assert not is_as_it_was()
    assert is_as_it_was()
    penstock.restore_all()
    assert is_as_it_was()


def test_as_a_decorator(kernel_calls) -> None:
    module = GRU(3, 4)

    @penstock.accelerated()
    def run() -> Tensor:
        return module(X)[0]

    assert kernel_calls(run) == kernel_calls(run) == 1
    assert kernel_calls(lambda: module(X)) == 0


def test_threads_come_and_go() -> None:
    module = Behaved(3, 4)
    expected = module(X)[0]
    failures = []

    def work() -> None:
        for _ in range(50):
            with penstock.accelerated():
                y = module(X)[0]
            if not torch.allclose(y, expected, atol=1e-6):
                failures.append(y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_it_holds_in_other_threads(kernel_calls) -> None:
    seen = []
    with penstock.accelerated():
        thread = threading.Thread(target=lambda: seen.append(kernel_calls(lambda: GRU(3, 4)(X))))
        thread.start()
        thread.join()
    assert seen == [1]


def test_pickled_inside_is_what_it_always_was() -> None:
    module = nn.Sequential(LSTM(3, 4), Behaved(4, 4))
    plain = pickle.dumps(module)
    with penstock.accelerated():
        assert pickle.dumps(module) == plain
        assert type(copy.deepcopy(module)[0]) is LSTM
        assert type(pickle.loads(plain)[1]) is Behaved


@pytest.mark.parametrize("dtype", [torch.float16, torch.complex64], ids=str)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_dtypes_the_kernels_lack(cls: type[nn.Module], dtype: torch.dtype, kernel_calls) -> None:
    module = cls(3, 4).to(dtype)
    x = example(module).to(dtype)
    expected = module(x)
    with penstock.accelerated():
        assert kernel_calls(lambda: assert_same(module(x), expected)) == 0


def test_packed_sequences_and_states(kernel_calls) -> None:
    module = nn.LSTM(3, 4, num_layers=2)
    packed = pack_padded_sequence(X, [2, 5], enforce_sorted=False)
    hx = (torch.randn(2, 2, 4), torch.randn(2, 2, 4))
    expected = module(packed, hx)
    with penstock.accelerated():
        got = module(packed, hx=hx)
        assert kernel_calls(lambda: module(packed)) > 0
    assert_same(pad_packed_sequence(got[0])[0], pad_packed_sequence(expected[0])[0])
    assert_same(got[1], expected[1])


def test_gradients_and_weights_computed_in_each_call(kernel_calls) -> None:
    for module in (nn.GRU(3, 4).double(), Behaved(3, 4).double()):
        parametrizations.weight_norm(module, "weight_hh_l0")
        parameters = list(module.parameters())
        loss = module(X.double())[0].square().sum()
        expected = [loss, *torch.autograd.grad(loss, parameters)]
        with penstock.accelerated():
            loss = module(X.double())[0].square().sum()
            assert_same([loss, *torch.autograd.grad(loss, parameters)], expected)
            assert kernel_calls(lambda module=module: module(X.double())) > 0


def test_with_models_that_are_accelerated(kernel_calls) -> None:
    model = penstock.accelerate(Model())
    expected = model(X)
    with penstock.accelerated():
        assert kernel_calls(lambda: assert_same(model(X), expected)) == 4
        penstock.restore(model)
        assert kernel_calls(lambda: assert_same(model(X), expected)) == 4
        penstock.accelerate(model)
    assert kernel_calls(lambda: assert_same(model(X), expected)) == 4
    half = penstock.accelerate(Behaved(3, 4)).half()
    with penstock.accelerated():
        assert kernel_calls(lambda: half(X.half())) == 0


def test_our_own_layers_where_the_kernels_lack_a_dtype() -> None:
    """They call torch's forward, which must not send them back."""
    layer = penstock.nn.GRU(3, 4).half()
    expected = layer(X.half())
    with penstock.accelerated():
        assert_same(layer(X.half()), expected)


@pytest.mark.parametrize(
    ("make", "arguments"), [*TRACEABLE, (lambda: nn.LSTM(3, 4), (X,)), (lambda: nn.GRUCell(3, 4), (X[0],))]
)
def test_traced_exported_compiled(make, arguments: tuple, kernel_calls) -> None:
    torch.compiler.reset()
    model = nn.Sequential(make())
    expected = model(*arguments)
    with penstock.accelerated():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about tracing and about its lists of weights
            traced = torch.jit.trace(model, arguments)
            program = torch.export.export(model, arguments)
        # Dynamo sees into torch's cells, and refuses its layers, which then run as they are.
        is_cell = isinstance(model[0], nn.RNNCellBase)
        compiled = torch.compile(model, backend="eager", fullgraph=is_cell)
        assert (kernel_calls(lambda: assert_same(compiled(*arguments), expected)) > 0) == (not is_cell)
    assert_same(compiled(*arguments), expected)
    assert_same(traced(*arguments), expected)  # pyright: ignore[reportCallIssue]
    assert any("penstock" in str(node.target) for node in program.graph.nodes)
    assert_same(program.module()(*arguments), expected)


class Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.cell = nn.LSTM(3, 4), nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.layer(x)[0][0])


def test_torchscript_finds_torchs_own_source() -> None:
    model = Scriptable()
    with penstock.accelerated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and says so
        program = torch.jit.script(model)
        assert_same(program(X), model(X))
    assert "aten::lstm" in str(program.inlined_graph)


def test_a_method_taken_while_it_was_on_is_torchs_afterwards(kernel_calls) -> None:
    module = nn.GRU(3, 4)
    with penstock.accelerated():
        method = module.forward
        assert kernel_calls(lambda: method(X)) == 1
    assert kernel_calls(lambda: assert_same(method(X), module(X))) == 0


@pytest.fixture
def torchs_gru_in_the_end() -> Iterator[None]:
    yield
    nn.GRU.forward = ORIGINAL[2]


@pytest.mark.usefixtures("torchs_gru_in_the_end")
def test_what_somebody_else_puts_there_stays(caplog: pytest.LogCaptureFixture, kernel_calls) -> None:
    module, calls = nn.GRU(3, 4), []
    with penstock.accelerated():
        ours = nn.GRU.forward

        def theirs(self, input, hx=None):
            calls.append(self)
            return ours(self, input, hx)

        nn.GRU.forward = theirs
        assert kernel_calls(lambda: module(X)) == 1
    assert caplog.messages == ["torch.nn.GRU.forward: replaced by somebody else, left so"]
    assert nn.GRU.forward is theirs
    assert kernel_calls(lambda: module(X)) == 0
    assert calls == [module, module]
    with penstock.accelerated():
        assert kernel_calls(lambda: module(X)) == 1
    assert nn.GRU.forward is theirs
