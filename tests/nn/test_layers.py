"""The layers as drop-ins for torch.nn's, and what they have beyond."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import penstock.nn
from penstock.cells import CELLS, unroll
from penstock.ops.reference import directions

STOCK = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "bias": False}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 4}),
    ("LSTM", {"bias": False}),
    ("GRU", {}),
]
EXTRA = [
    ("LSTM", {"peephole": True}),
    ("LSTM", {"peephole": True, "proj_size": 3, "bias": False}),
    ("GRU", {"reset_after": False}),
]
SHAPES = [
    {},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def pair(name: str, options: dict, dtype: torch.dtype = torch.float64) -> tuple[nn.RNNBase, nn.RNNBase]:
    """Ours and torch's, made from the same seed."""
    made = []
    for module in (penstock.nn, nn):
        torch.manual_seed(7)
        made.append(getattr(module, name)(5, 9, dtype=dtype, **options))
    return made[0], made[1]


def flat(value) -> list[Tensor]:
    """Every tensor of a result."""
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value if v is not None for t in flat(v)]


def assert_same(got, expected) -> None:
    got, expected = flat(got), flat(expected)
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def initial(layer: nn.RNNBase, batch: int | None) -> Tensor | tuple[Tensor, Tensor]:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (rows, batch) if batch is not None else (rows,)
    dtype = layer.weight_ih_l0.dtype
    h = torch.randn(*shape, layer.proj_size or layer.hidden_size, dtype=dtype)  # type: ignore[misc]
    return (h, torch.randn(*shape, layer.hidden_size, dtype=dtype)) if isinstance(layer, nn.LSTM) else h  # type: ignore[misc]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), STOCK, ids=str)
class TestDropIn:
    def test_same_parameters_results_and_gradients(self, name: str, options: dict, shape: dict) -> None:
        ours, theirs = pair(name, options | shape)
        assert isinstance(ours, getattr(nn, name))
        assert ours._get_name() == theirs._get_name() == name
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
        x = torch.randn(7, 4, 5, dtype=torch.float64)
        hx = initial(ours, 7 if ours.batch_first else 4)
        results = []
        for layer in (ours, theirs):
            leaves = [t.clone().requires_grad_() for t in flat([x, hx])]
            given = tuple(leaves[1:]) if len(leaves) > 2 else leaves[1]
            outputs = flat(layer(leaves[0], given))
            torch.manual_seed(1)
            loss = sum((o * torch.randn(o.shape, dtype=o.dtype)).sum() for o in outputs)
            gradients = torch.autograd.grad(loss, [*leaves, *layer.parameters()])  # type: ignore[arg-type]
            results.append([*outputs, *gradients])
        assert_same(results[0], results[1])
        assert_same(ours(x), theirs(x))

    def test_state_dict_both_ways(self, name: str, options: dict, shape: dict) -> None:
        ours, theirs = pair(name, options | shape)
        theirs.load_state_dict({k: v + 1 for k, v in ours.state_dict().items()}, strict=True)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        x = torch.randn(3, 2, 5, dtype=torch.float64)
        assert_same(ours(x), theirs(x))

    def test_unbatched(self, name: str, options: dict, shape: dict) -> None:
        ours, theirs = pair(name, options | shape)
        x, hx = torch.randn(6, 5, dtype=torch.float64), initial(ours, None)
        assert_same(ours(x, hx), theirs(x, hx))
        assert_same(ours(x), theirs(x))

    @pytest.mark.parametrize("lengths", [[3, 6, 1, 6], [6, 6, 6, 6]], ids=["ragged", "equal"])
    def test_packed_sequence(self, name: str, options: dict, shape: dict, lengths: list[int]) -> None:
        ours, theirs = pair(name, options | shape)
        padded = torch.randn(6, 4, 5, dtype=torch.float64)
        packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
        hx = initial(ours, 4)
        for given in (None, hx):
            got, expected = ours(packed, given), theirs(packed, given)
            assert_same(got[0].data, expected[0].data)
            assert_same(got[1], expected[1])
            assert_same(pad_packed_sequence(got[0])[0], pad_packed_sequence(expected[0])[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_lengths_are_each_row_alone(name: str, options: dict, shape: dict) -> None:
    torch.manual_seed(0)
    layer = getattr(penstock.nn, name)(5, 9, dtype=torch.float64, **options, **shape)
    batch_first, lengths = layer.batch_first, [3, 0, 8, 1, 8, 5]
    x = torch.randn(6, 8, 5, dtype=torch.float64)
    hx = initial(layer, 6)
    given = x if batch_first else x.transpose(0, 1)
    y, final = layer(given, hx, lengths=torch.tensor(lengths))
    assert_same(layer(given, hx, lengths=lengths), (y, final))
    y = y if batch_first else y.transpose(0, 1)
    for row, length in enumerate(lengths):
        own = flat([hx])
        own = [h[:, row : row + 1] for h in own]
        assert not y[row, length:].any()
        if length == 0:
            assert_same([f[:, row : row + 1] for f in flat([final])], own)
            continue
        alone = x[row : row + 1, :length]
        hx_alone = tuple(own) if isinstance(layer, nn.LSTM) else own[0]
        y_alone, final_alone = layer(alone if batch_first else alone.transpose(0, 1), hx_alone)
        assert_same(y[row, :length], (y_alone if batch_first else y_alone.transpose(0, 1))[0])
        assert_same([f[:, row : row + 1] for f in flat([final])], final_alone)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"peephole": True}, {"peephole": True, "proj_size": 2}], ids=str)
def test_cell_states_of_every_step(options: dict, packed: bool) -> None:
    layer = penstock.nn.LSTM(5, 9, num_layers=2, bidirectional=True, dtype=torch.float64, **options)
    x, lengths = torch.randn(7, 3, 5, dtype=torch.float64), [7, 2, 4]
    if packed:
        y, (_, c_n), cells = layer(
            pack_padded_sequence(x, lengths, enforce_sorted=False), return_cell_states=True
        )
        y, *cells = (pad_packed_sequence(s)[0] for s in (y, *cells))
    else:
        y, (_, c_n), cells = layer(x, lengths=lengths, return_cell_states=True)
    assert [c.shape for c in cells] == [(7, 3, 18)] * 2
    for k, c in enumerate(cells):
        for row, length in enumerate(lengths):
            torch.testing.assert_close(c[length - 1, row, :9], c_n[2 * k, row])
            torch.testing.assert_close(c[0, row, 9:], c_n[2 * k + 1, row])
            assert not c[length:, row].any()
    weights = directions(layer._weights()[0], 2)[0]
    zeros = (torch.zeros(3, weights.weight_hh.shape[1]).double(), torch.zeros(3, 9).double())
    _, _, expected = unroll(CELLS["lstm"], x, zeros, weights, torch.tensor(lengths))
    torch.testing.assert_close(cells[0][..., :9], expected)
    assert cells[0].requires_grad


def test_peephole_parameters() -> None:
    layer = penstock.nn.LSTM(2, 3, num_layers=2, bidirectional=True, peephole=True)
    names = [n for n, _ in layer.named_parameters() if "peephole" in n]
    assert names == [f"weight_peephole_l{k}{s}" for k in (0, 1) for s in ("", "_reverse")]
    assert all(layer.get_parameter(n).shape == (9,) for n in names)
    assert layer.all_weights[3][-1] is layer.weight_peephole_l1_reverse
    torch.manual_seed(0)
    plain = nn.LSTM(2, 3)
    torch.manual_seed(0)
    assert torch.equal(
        penstock.nn.LSTM(2, 3, peephole=True).get_parameter("weight_hh_l0"),
        plain.get_parameter("weight_hh_l0"),
    )
    assert "peephole=True" in repr(layer)
    layer.reset_parameters()
    assert all(layer.get_parameter(n).abs().max() <= 3**-0.5 for n in names)


def test_dropout_between_layers_only_in_training() -> None:
    layer = penstock.nn.GRU(3, 64, num_layers=2, dropout=0.5)
    x = torch.randn(5, 4, 3)
    torch.manual_seed(3)
    first = layer(x)[0]
    assert not torch.equal(first, layer(x)[0])
    torch.manual_seed(3)
    assert torch.equal(first, layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_copies(name: str, options: dict) -> None:
    layer = getattr(penstock.nn, name)(5, 9, **options)
    x = torch.randn(4, 2, 5)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    copies = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(stream, weights_only=False),
        layer._replicate_for_data_parallel(),
    ]
    for other in copies[:3]:
        assert_same(other(x), layer(x))
        assert type(other) is type(layer)
    layer.flatten_parameters()
    assert_same(layer.to(torch.float64)(x.double()), copies[0].double()(x.double()))


@pytest.mark.parametrize(("name", "options"), [STOCK[0], STOCK[3], STOCK[5], *EXTRA], ids=str)
def test_compile_and_export(name: str, options: dict) -> None:
    torch.compiler.reset()
    layer = getattr(penstock.nn, name)(5, 9, num_layers=2, bidirectional=True, **options)
    x = torch.randn(4, 3, 5, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for lengths in (None, torch.tensor([4, 0, 2])):
        expected, got = layer(x, lengths=lengths), compiled(x, lengths=lengths)
        assert_same(got, expected)
        gradients = [torch.autograd.grad(flat(r)[0].square().sum(), x)[0] for r in (got, expected)]
        assert_same(*gradients)
    time, batch = torch.export.Dim("time", min=2), torch.export.Dim("batch", min=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.export's own, about torch.nn's list of weights
        program = torch.export.export(layer, (x.detach(),), dynamic_shapes=({0: time, 1: batch},))
    other = torch.randn(9, 2, 5)
    assert_same(program.module()(other), layer(other))


def test_compile_leaves_torchs_layers_as_they_were() -> None:
    from torch._dynamo.exc import Unsupported  # noqa: PLC0415 - slow, and loaded last on purpose

    theirs = torch.compile(nn.LSTM(2, 3), fullgraph=True, backend="eager")
    with pytest.raises(Unsupported, match="LSTM"):
        theirs(torch.zeros(2, 1, 2))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_a_dtype_the_kernels_lack(name: str, options: dict, dtype: torch.dtype) -> None:
    """torch's own way for its cells, the reference for the others; with lengths too."""
    layer = getattr(penstock.nn, name)(5, 9, num_layers=2, bidirectional=True, **options)
    other = copy.deepcopy(layer).to(dtype)
    x = torch.randn(6, 4, 5)
    for lengths in (None, [6, 0, 2, 3]):
        expected, got = flat(layer(x, lengths=lengths)), flat(other(x.to(dtype), lengths=lengths))
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == dtype
            torch.testing.assert_close(a.float(), b, atol=0.03, rtol=0.03)
    packed = pack_padded_sequence(x.to(dtype), [6, 2, 3, 1], enforce_sorted=False)
    reference = layer(pack_padded_sequence(x, [6, 2, 3, 1], enforce_sorted=False))
    torch.testing.assert_close(other(packed)[0].data.float(), reference[0].data, atol=0.03, rtol=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_cuda(name: str, options: dict) -> None:
    layer = getattr(penstock.nn, name)(5, 9, num_layers=2, bidirectional=True, **options)
    x = torch.randn(6, 4, 5)
    for lengths in (None, [6, 0, 2, 3]):
        expected = flat(layer(x, lengths=lengths))
        got = flat(copy.deepcopy(layer).cuda()(x.cuda(), lengths=lengths))
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a.cpu(), b, atol=1e-4, rtol=1e-4)


def test_functional_call_and_parametrization() -> None:
    layer = penstock.nn.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    doubled = {n: p * 2 for n, p in layer.named_parameters()}
    other = penstock.nn.LSTM(3, 4)
    other.load_state_dict(doubled)
    assert_same(torch.func.functional_call(layer, doubled, (x,)), other(x))
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    layer(x)[0].sum().backward()
    assert layer.parametrizations.weight_hh_l0.original0.grad is not None  # type: ignore[union-attr]


def test_jit_trace() -> None:
    layer = penstock.nn.GRU(3, 4).eval()
    x = torch.randn(5, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and torch says so at length
        traced = torch.jit.trace(layer, (x,))
    assert_same(traced(x), layer(x))  # pyright: ignore[reportCallIssue]


WRONG = [
    (lambda m: m(torch.zeros(2, 3, 4, 5)), ValueError),
    (lambda m: m(torch.zeros(4, 3, 6)), RuntimeError),
    (lambda m: m(torch.zeros(4, 3, 5, dtype=torch.float64)), ValueError),
    (lambda m: m(torch.zeros(4, 3, 5, dtype=torch.int64)), ValueError),
    (lambda m: m(torch.zeros(0, 3, 5)), RuntimeError),
    (lambda m: m(torch.zeros(4, 3, 5), (torch.zeros(1, 3, 9), torch.zeros(1, 2, 9))), RuntimeError),
    (lambda m: m(torch.zeros(4, 3, 5), (torch.zeros(1, 3, 8), torch.zeros(1, 3, 9))), RuntimeError),
    (lambda m: m(torch.zeros(4, 3, 5), (torch.zeros(3, 9), torch.zeros(3, 9))), RuntimeError),
    (lambda m: m(torch.zeros(4, 5), (torch.zeros(1, 1, 9), torch.zeros(1, 1, 9))), RuntimeError),
]


@pytest.mark.parametrize(("call", "error"), WRONG)
def test_the_same_kind_of_error_as_torch(call, error: type[Exception]) -> None:
    for module in (nn, penstock.nn):
        with pytest.raises(error):
            call(module.LSTM(5, 9))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lengths": [1, 2]}, ValueError, r"lengths: expected shape \(3,\), got \(2,\)"),
        (
            {"lengths": [1, 2, 5]},
            ValueError,
            "lengths: expected values from 0 to the time dimension 4, got .* 5",
        ),
        ({"lengths": [1, -1, 2]}, ValueError, "from -1 to 2"),
        ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths: expected integers, got torch.float32"),
        ({"hx": torch.zeros(1, 3, 9)}, RuntimeError, "pair"),
        (
            {"hx": (torch.zeros(1, 3, 9), torch.zeros(1, 3, 9).double())},
            ValueError,
            "cx: expected torch.float32",
        ),
        ({"input": [1, 2]}, TypeError, "input: expected a Tensor or a PackedSequence, got list"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    layer = penstock.nn.LSTM(5, 9)
    with pytest.raises(error, match=message):
        layer(**{"input": torch.zeros(4, 3, 5)} | arguments)


def test_wrong_options() -> None:
    with pytest.raises(TypeError, match="peephole should be of type bool, got: int"):
        penstock.nn.LSTM(2, 3, peephole=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="reset_after should be of type bool, got: str"):
        penstock.nn.GRU(2, 3, reset_after="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="return_cell_states: expected an LSTM, got GRU"):
        penstock.nn.GRU(2, 3)(torch.zeros(1, 1, 2), return_cell_states=True)
    packed = pack_padded_sequence(torch.zeros(2, 1, 2), [2])
    with pytest.raises(ValueError, match="lengths: expected None with a PackedSequence"):
        penstock.nn.GRU(2, 3)(packed, lengths=[2])
    with pytest.raises(ValueError, match="hidden_size must be greater than zero"):
        penstock.nn.GRU(2, 0)


@pytest.mark.parametrize(("name", "options"), [*STOCK, *EXTRA], ids=str)
def test_gradient_penalty_through_a_stack(name: str, options: dict) -> None:
    """Against torch's own second derivatives where torch has the cell, otherwise numerically."""
    layer = getattr(penstock.nn, name)(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64, **options)
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def penalty(module: nn.Module, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        (g,) = torch.autograd.grad(module(x)[0].sin().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), [x, *parameters])

    ours = penalty(layer, list(layer.parameters()))
    if (name, options) in STOCK:
        theirs = getattr(nn, name)(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64, **options)
        theirs.load_state_dict(layer.state_dict())
        assert_same(ours, penalty(theirs, list(theirs.parameters())))
    torch.autograd.gradgradcheck(lambda x: layer(x, lengths=[3, 1])[0], x, fast_mode=True)


def test_gradient_penalty_of_a_packed_sequence() -> None:
    layer = penstock.nn.LSTM(3, 5, num_layers=2, bidirectional=True, dtype=torch.float64)

    def outputs(x: Tensor) -> list[Tensor]:
        y, final = layer(pack_padded_sequence(x, [1, 3], enforce_sorted=False))
        return flat([y.data, final])

    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(outputs, x, fast_mode=True)


@pytest.mark.parametrize(("name", "options"), [STOCK[0], STOCK[3], STOCK[5], *EXTRA], ids=str)
def test_per_sample_gradients_and_ensembles(name: str, options: dict) -> None:
    layers = [
        getattr(penstock.nn, name)(3, 5, num_layers=2, batch_first=True, dtype=torch.float64, **options)
        for _ in range(3)
    ]
    samples = torch.randn(5, 6, 3, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layers[0], parameters, (x,))[0].square().sum()

    own = {n: p.detach() for n, p in layers[0].named_parameters()}
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(own, samples[:, None])
    for k, sample in enumerate(samples):
        gradients = torch.autograd.grad(
            layers[0](sample[None])[0].square().sum(), list(layers[0].parameters())
        )
        assert_same([g[k] for g in each.values()], gradients)
    ensemble, _ = torch.func.stack_module_state(layers)  # type: ignore[arg-type]
    together = torch.func.vmap(loss, (0, None))(ensemble, samples)
    assert_same(together, torch.stack([m(samples)[0].square().sum() for m in layers]))


def test_backward_in_eval_mode() -> None:
    layer = penstock.nn.GRU(3, 4, num_layers=2, dropout=0.5, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    layer.eval()
    layer(x)[0].sum().backward()
    theirs = nn.GRU(3, 4, num_layers=2, dropout=0.5, dtype=torch.float64).eval()
    theirs.load_state_dict(layer.state_dict())
    expected = torch.autograd.grad(theirs(x)[0].sum(), [x, *theirs.parameters()])
    assert_same([x.grad, *(p.grad for p in layer.parameters())], expected)


def test_frozen_weights_get_no_gradient() -> None:
    layer = penstock.nn.LSTM(3, 4, bidirectional=True)
    x = torch.randn(5, 2, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(x)[0].sum(), x)
    layer.requires_grad_(False)
    layer(x)[0].sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, expected)
    assert all(p.grad is None for p in layer.parameters())
    assert not layer(x.detach())[0].requires_grad


def test_attributes_that_stand_in_for_parameters() -> None:
    """As torch.nn.parallel's replicas have them, and libraries that compute a weight before each call."""
    layer = penstock.nn.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    expected = copy.deepcopy(layer)
    expected.weight_hh_l0.data.mul_(2)  # type: ignore[union-attr]
    weight = layer.weight_hh_l0
    del layer.weight_hh_l0
    layer.weight_hh_l0 = weight.detach() * 2  # type: ignore[assignment]
    assert_same(layer(x), expected(x))
