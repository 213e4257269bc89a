"""The last rung: the shipped kernel against the plain step and the hand-derived backward.

In float64 up to rounding; in float32 as accurate as plain torch operators. Outputs are poisoned (conftest).
"""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from penstock import ops
from penstock.cells import Weights
from tests.ops.layer import kernel, run
from tests.reference import (
    SIZES,
    VARIANTS,
    Outputs,
    Problem,
    Variant,
    assert_equal,
    assert_typically_as_accurate,
    evaluate,
    evaluate_by_hand,
    random_problem,
)

RAGGED = [0, 5, 17, 1, 0, 17, 3, 16, 2, 9, 17, 8, 4]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernel_is_the_plain_step_in_float64(variant: Variant, sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(variant, sizes)
    got = evaluate(problem, kernel)
    assert_equal(got, evaluate(problem))
    assert_equal(got, evaluate_by_hand(problem))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernel_is_as_accurate_as_torch_in_float32(
    variant: Variant, sizes: tuple[int, int, int, int]
) -> None:
    assert_typically_as_accurate(kernel, lambda seed: random_problem(variant, sizes, seed=seed))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_instruction_set(variant: Variant, instruction_set: str) -> None:
    def problem(seed: int) -> Problem:
        return random_problem(variant, (17, 13, 33, 35), lengths=RAGGED, seed=seed)

    assert_equal(evaluate(problem(0), kernel), evaluate(problem(0)))
    assert_typically_as_accurate(kernel, problem, seeds=3)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_a_step_of_any_few_rows(cell: str, instruction_set: str) -> None:
    """Products with the weights as they are take rows by threes or fours, and what is left by itself."""
    for rows in range(1, 18):

        def problem(seed: int, rows: int = rows) -> Problem:
            return random_problem(Variant(cell), (1, rows, 21, 40), seed=seed)

        assert_equal(evaluate(problem(0), kernel), evaluate(problem(0)))
        assert_typically_as_accurate(kernel, problem, seeds=3)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_ragged(variant: Variant, reverse: bool) -> None:
    problem = random_problem(variant, (17, 13, 3, 33), lengths=RAGGED, reverse=reverse)
    expected = evaluate(problem)
    padding = (torch.arange(17)[:, None] >= torch.tensor(RAGGED)).unsqueeze(-1)
    poisoned = problem._replace(x=problem.x.masked_fill(padding, torch.nan))
    got = evaluate(poisoned, kernel)
    assert_equal(got, expected)
    assert not got["y"].masked_select(padding).any()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_whole_sequence_equals_two_pieces(variant: Variant) -> None:
    problem = random_problem(variant, (33, 3, 17, 17))

    def two_pieces(p: Problem) -> Outputs:
        first = kernel(p._replace(x=p.x[:13]))
        second = kernel(p._replace(x=p.x[13:], state=first[1]))
        c_steps = None if first[2] is None or second[2] is None else torch.cat([first[2], second[2]])
        return torch.cat([first[0], second[0]]), second[1], c_steps

    assert_equal(evaluate(problem, two_pieces), evaluate(problem, kernel))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_packed_equals_padded(cell: str) -> None:
    lengths = sorted((n for n in RAGGED if n), reverse=True)
    problem = random_problem(Variant(cell), (17, len(lengths), 5, 19), lengths=lengths)

    def packed(p: Problem) -> Outputs:
        x = pack_padded_sequence(p.x, torch.tensor(lengths))
        y, h_n, c_n, c_steps = run(p._replace(x=x.data, lengths=None), batch_sizes=x.batch_sizes)
        y, *c_steps = (
            pad_packed_sequence(PackedSequence(s, x.batch_sizes))[0] for s in (y, c_steps) if s.numel()
        )
        return y, (h_n[0], c_n[0]) if c_n.numel() else (h_n[0],), c_steps[0] if c_steps else None

    assert_equal(evaluate(problem, packed), evaluate(problem))


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_views_of_any_strides(cell: str) -> None:
    problem = random_problem(Variant(cell), (9, 7, 6, 18))
    expected = evaluate(problem, kernel)

    def transposed(p: Problem) -> Outputs:
        return kernel(p._replace(x=p.x.transpose(0, 2).contiguous().transpose(0, 2)))

    def every_other(p: Problem) -> Outputs:
        wide = torch.stack([p.x, torch.full_like(p.x, torch.nan)], 1).reshape(9, 14, 6)[:, :7]
        rows = torch.stack([p.x, torch.full_like(p.x, torch.nan)], 2).reshape(9, 14, 6)[:, ::2]
        assert wide.shape == rows.shape
        return kernel(p._replace(x=rows))

    def unaligned(p: Problem) -> Outputs:
        buffer = torch.cat([p.x.new_zeros(1), p.x.flatten()])
        return kernel(p._replace(x=buffer[1:].view(p.x.shape)))

    for view in (transposed, every_other, unaligned):
        assert_equal(evaluate(problem, view), expected)


def test_batch_first_is_the_transpose() -> None:
    problem = random_problem(Variant("lstm", peephole=True), (9, 7, 6, 18), lengths=[9, 0, 3, 4, 9, 1, 2])

    def batch_first(p: Problem) -> Outputs:
        x = p.x.transpose(0, 1).contiguous()
        h0, c0 = (t[None] for t in p.state)
        out = ops.layer(
            x, h0, c0, [p.weights], cell="lstm", lengths=p.lengths, batch_first=True, cell_states=True
        )
        return out.y.transpose(0, 1), (out.h_n[0], out.c_n[0]), out.cell_states.transpose(0, 1)

    assert_equal(evaluate(problem, batch_first), evaluate(problem))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.bias], ids=str)
def test_the_same_bits_with_any_number_of_threads(variant: Variant) -> None:
    problem = random_problem(variant, (17, 13, 33, 65), lengths=RAGGED).to(torch.float32)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        results.append(evaluate(problem, kernel))
    torch.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradcheck(variant: Variant) -> None:
    problem = random_problem(variant, (3, 4, 2, 3), lengths=[3, 0, 1, 2])
    names = list(problem.inputs())

    def outputs(*values: Tensor) -> list[Tensor]:
        given = dict(zip(names, values, strict=True))
        state = tuple(given[f"{s}_0"] for s in problem.cell.state)
        weights = Weights(**{n: given.get(n) for n in Weights._fields})  # type: ignore[arg-type]
        y, state_n, c_steps = kernel(problem._replace(x=given["x"], state=state, weights=weights))
        return [y, *state_n, *([] if c_steps is None else [c_steps])]

    torch.autograd.gradcheck(outputs, [t.requires_grad_() for t in problem.inputs().values()])


def test_gradients_only_where_asked() -> None:
    """Frozen weights, an input without gradient, one output used: the others are as if all were asked for."""
    problem = random_problem(Variant("lstm"), (5, 3, 4, 17))
    zeros = tuple(map(torch.zeros_like, problem.state))
    c_steps = torch.zeros(5, 3, 17, dtype=torch.float64)
    expected = evaluate(problem._replace(grad_state_n=zeros, grad_c_steps=c_steps))
    bias = problem.weights.bias_hh
    assert bias is not None
    bias.requires_grad_()
    y = kernel(problem)[0]
    (got,) = torch.autograd.grad(y, bias, problem.grad_y)
    assert_equal({"bias": got}, {"bias": expected["grad bias_hh"]})


def test_backward_twice_through_a_kept_graph() -> None:
    problem = random_problem(Variant("gru"), (5, 3, 4, 17)).map(lambda t: t.requires_grad_())
    loss = (kernel(problem)[0] * problem.grad_y.detach()).sum()
    first = torch.autograd.grad(loss, problem.x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, problem.x)[0])


@pytest.mark.parametrize("shape", [(5, 0), (1, 1)], ids=["empty batch", "one step of one row"])
def test_edges(shape: tuple[int, int]) -> None:
    for variant in VARIANTS:
        problem = random_problem(variant, (*shape, 3, 5))
        assert_equal(evaluate(problem, kernel), evaluate(problem))


def test_long_sequence_stays_finite() -> None:
    problem = random_problem(Variant("lstm"), (5000, 1, 2, 3)).to(torch.float32)
    assert all(t.isfinite().all() for t in evaluate(problem, kernel).values())


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_not_a_number_stays_in_its_row_and_huge_values_saturate(cell: str, value: float) -> None:
    problem = random_problem(Variant(cell), (4, 3, 2, 17)).to(torch.float32)
    x = problem.x.clone()
    x[2, 1] = value
    got, clean = kernel(problem._replace(x=x))[0], kernel(problem)[0]
    expected = evaluate(problem._replace(x=x))["y"]
    assert torch.equal(got[:, [0, 2]], clean[:, [0, 2]])
    assert torch.equal(got[:2, 1], clean[:2, 1])
    assert torch.equal(got.isnan(), expected.isnan())
