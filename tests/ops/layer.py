"""A problem through the operator `penstock::layer`, in the form of the oracle."""

from penstock import ops
from tests.reference import Outputs, Problem


def run(problem: Problem, **options) -> ops.Output:
    """The operator on a problem; a reverse problem runs as the second of two directions."""
    weights = [problem.weights] * (2 if problem.reverse else 1)
    state = [t.expand(len(weights), *t.shape) for t in problem.state]
    h0, c0 = [*state, None][:2]
    return ops.layer(
        problem.x, h0, c0, weights, cell=problem.cell.name, lengths=problem.lengths,
        cell_states=c0 is not None, **options,
    )  # fmt: skip


def kernel(problem: Problem) -> Outputs:
    """The kernel's outputs in the form of the oracle; of two directions the second one."""
    y, h_n, c_n, c_steps = run(problem)
    has_c = "c" in problem.cell.state
    if problem.reverse:
        y, c_steps = y.chunk(2, -1)[1], c_steps.chunk(2, -1)[1] if has_c else c_steps
    return y, (h_n[-1], c_n[-1]) if has_c else (h_n[-1],), c_steps if has_c else None
