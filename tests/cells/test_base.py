"""What every cell must keep: the backward derived by hand is the derivative of the plain step, a sequence may
be cut in two, and a ragged batch is its rows one by one."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from penstock.cells import CELLS, Weights, unroll
from tests.reference import (
    SIZES,
    VARIANTS,
    Problem,
    Variant,
    assert_as_accurate,
    assert_equal,
    evaluate,
    evaluate_by_hand,
    plain,
    random_problem,
)

variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@pytest.mark.parametrize("name", CELLS)
def test_cells_go_by_their_name(name: str) -> None:
    assert CELLS[name].name == name


@variants
def test_step_has_the_derivative_that_differences_show(variant: Variant) -> None:
    problem = random_problem(variant, (1, 3, 2, 4)).map(lambda t: t.requires_grad_())
    cell, names = problem.cell, problem.inputs()

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, tensors, strict=True))
        weights = Weights(**{name: t for name, t in named.items() if name in Weights._fields})
        return cell.step(named["x"][0], tuple(named[f"{s}_0"] for s in cell.state), weights)

    assert gradcheck(step, tuple(names.values()))


@variants
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_backward_by_hand_is_autograd(variant: Variant, sizes: tuple[int, int, int, int]) -> None:
    problem = random_problem(variant, sizes)
    assert_equal(evaluate_by_hand(problem), evaluate(problem))


@pytest.mark.parametrize("name", CELLS)
def test_backward_by_hand_keeps_the_accuracy_of_float32(name: str) -> None:
    problem = random_problem(Variant(name), (33, 17, 33, 33))
    single = problem.to(torch.float32)
    assert_as_accurate(evaluate_by_hand(single), evaluate(single), evaluate(problem))


def test_backward_without_a_gradient_for_cell_states() -> None:
    problem = random_problem(Variant("lstm", peephole=True), (17, 3, 5, 7))._replace(grad_c_steps=None)
    assert_equal(evaluate_by_hand(problem), evaluate(problem))


@variants
@pytest.mark.parametrize(("T", "cut"), [(3, 1), (17, 16), (33, 17)])
def test_two_pieces_are_the_whole(variant: Variant, T: int, cut: int) -> None:
    whole = random_problem(variant, (T, 3, 5, 17))
    first = whole._replace(x=whole.x[:cut], grad_y=whole.grad_y[:cut])
    second = whole._replace(x=whole.x[cut:], grad_y=whole.grad_y[cut:])
    if whole.grad_c_steps is not None:
        first = first._replace(grad_c_steps=whole.grad_c_steps[:cut])
        second = second._replace(grad_c_steps=whole.grad_c_steps[cut:])

    states = whole.cell.state
    _, state, _ = whole.cell.forward(first.x, first.state, first.weights)
    late = evaluate_by_hand(second._replace(state=state))
    early = evaluate_by_hand(first._replace(grad_state_n=tuple(late[f"grad {s}_0"] for s in states)))

    joined = {
        name: torch.cat([early[name], late[name]]) for name in ("y", "c_steps", "grad x") if name in late
    }
    joined |= {f"{s}_n": late[f"{s}_n"] for s in states} | {
        f"grad {s}_0": early[f"grad {s}_0"] for s in states
    }
    joined |= {
        name: early[name] + late[name] for name in late if name.startswith(("grad weight", "grad bias"))
    }
    assert_equal(joined, evaluate_by_hand(whole))


def row_alone(problem: Problem, b: int, length: int) -> Problem:
    """Row b of a ragged problem as a problem of its own, turned around if it is to run in reverse."""

    def steps(t: Tensor) -> Tensor:
        return t[:length, b : b + 1].flip(0) if problem.reverse else t[:length, b : b + 1]

    return problem._replace(
        x=steps(problem.x),
        state=tuple(s[b : b + 1] for s in problem.state),
        grad_y=steps(problem.grad_y),
        grad_state_n=tuple(s[b : b + 1] for s in problem.grad_state_n),
        grad_c_steps=None if problem.grad_c_steps is None else steps(problem.grad_c_steps),
        lengths=None,
        reverse=False,
    )


def rows_alone(problem: Problem, lengths: list[int]) -> dict[str, Tensor]:
    """The results of a ragged problem, every row computed by hand without the others."""
    expected = {name: torch.zeros_like(t) for name, t in evaluate(problem).items()}
    for b, length in enumerate(lengths):
        row = row_alone(problem, b, length)
        for s, start, grad in zip(problem.cell.state, row.state, row.grad_state_n, strict=True):
            expected[f"{s}_n"][b], expected[f"grad {s}_0"][b] = start[0], grad[0]
        if length == 0:
            continue
        for name, t in evaluate_by_hand(row).items():
            if name in ("y", "c_steps", "grad x"):
                expected[name][:length, b] = (t.flip(0) if problem.reverse else t)[:, 0]
            elif name.removeprefix("grad ") in Weights._fields:
                expected[name] += t
            else:
                expected[name][b] = t[0]
    return expected


@variants
@directions
@pytest.mark.parametrize("lengths", [[17, 0, 5, 1, 16], [3, 3, 0], [0, 0], [1]], ids=str)
def test_ragged_batch_is_its_rows_alone(variant: Variant, reverse: bool, lengths: list[int]) -> None:
    problem = random_problem(variant, (17, len(lengths), 3, 5), lengths=lengths, reverse=reverse)
    expected = rows_alone(problem, lengths)
    padding = torch.arange(17)[:, None] >= torch.tensor(lengths)
    problem.x[padding] = torch.nan
    assert_equal(evaluate(problem), expected)


@variants
@directions
def test_full_lengths_are_no_lengths(variant: Variant, reverse: bool) -> None:
    problem = random_problem(variant, (17, 3, 5, 7), lengths=[17] * 3, reverse=reverse)
    assert_equal(evaluate(problem), evaluate(problem._replace(lengths=None)))


@variants
def test_reverse_is_forward_on_the_reversed(variant: Variant) -> None:
    problem = random_problem(variant, (17, 3, 5, 7), reverse=True)
    y, state_n, c_steps = plain(problem)
    expected = plain(problem._replace(x=problem.x.flip(0), reverse=False))
    assert torch.equal(y, expected[0].flip(0))
    assert all(torch.equal(s, e) for s, e in zip(state_n, expected[1], strict=True))
    if c_steps is not None:
        assert expected[2] is not None
        assert torch.equal(c_steps, expected[2].flip(0))


@variants
@directions
@pytest.mark.parametrize("lengths", [None, [0, 0, 0]])
def test_no_steps_leave_the_state(variant: Variant, reverse: bool, lengths: list[int] | None) -> None:
    problem = random_problem(variant, (0, 3, 5, 7), lengths=lengths, reverse=reverse)
    y, state_n, c_steps = plain(problem)
    assert y.shape == problem.grad_y.shape
    assert all(torch.equal(s, e) for s, e in zip(state_n, problem.state, strict=True))
    assert (None if c_steps is None else c_steps.shape) == ((0, 3, 7) if "c" in problem.cell.state else None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CELLS)
def test_unroll_stays_in_its_dtype(name: str, dtype: torch.dtype) -> None:
    problem = random_problem(Variant(name), (3, 2, 5, 7), lengths=[3, 1])
    exact, _, _ = plain(problem)
    y, state_n, _ = plain(problem.to(dtype))
    assert {t.dtype for t in (y, *state_n)} == {dtype}
    assert (y.double() - exact).abs().max() < 16 * torch.finfo(dtype).eps


def test_unroll_takes_lengths_from_another_device() -> None:
    problem = random_problem(Variant("gru"), (3, 2, 5, 7), lengths=[3, 1]).map(lambda t: t.to("meta"))
    y, _, _ = unroll(problem.cell, problem.x, problem.state, problem.weights, problem.lengths)
    assert y.device.type == "meta"
    assert y.shape == (3, 2, 7)
