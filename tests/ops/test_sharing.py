"""How the kernels cut their work, and that nobody can tell: by threads, chunks, slices, panels and rows.

The sizes are those at which csrc/sizes.hpp changes from one way of working to another. Outputs are poisoned
(conftest).
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from tests.ops.layer import kernel, run
from tests.reference import Outputs, Problem, Variant, assert_equal, evaluate, random_problem

CELLS = [
    Variant("rnn_tanh"),
    Variant("rnn_relu"),
    Variant("lstm"),
    Variant("lstm", peephole=True),
    Variant("lstm", projection=True),
    Variant("gru"),
    Variant("gru_reset_before"),
]
# (T, B, D, H) where threads share the units of a few rows, of too many weights, of one row only, and where
# they share the rows of one block after another.
SHARED = [(9, 5, 13, 144), (21, 1, 3, 333), (13, 8, 33, 200), (5, 3, 130, 512), (3, 700, 5, 33)]
THREADS = [1, 2, 3, 4, 8]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def with_threads(threads: int, problem: Problem) -> dict[str, Tensor]:
    torch.set_num_threads(threads)
    return evaluate(problem, kernel)


def assert_same_bits(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(got[name], expected[name])] == []


# ---- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", ["one direction", "two directions"])
@pytest.mark.parametrize("sizes", SHARED, ids=str)
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_the_same_bits_with_any_number_of_threads(variant: Variant, sizes, directions: str) -> None:
    two = directions == "two directions"
    problem = random_problem(variant, sizes, reverse=two).to(torch.float32)
    first = with_threads(1, problem)
    for threads in THREADS:
        assert_same_bits(with_threads(threads, problem), first)


@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_shared_units_of_a_ragged_batch_are_the_plain_step(variant: Variant, instruction_set: str) -> None:
    T, B, D, H = 9, 6, 13, 288 if variant.name.startswith("rnn") else 144
    problem = random_problem(variant, (T, B, D, H), lengths=[9, 0, 3, 1, 9, 5])
    torch.set_num_threads(3)
    assert_equal(evaluate(problem, kernel), evaluate(problem))


@pytest.mark.parametrize("directions", ["one direction", "two directions"])
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_two_groups_of_a_ragged_batch(variant: Variant, directions: str) -> None:
    """Rows whose weights' gradients are summed apart, over several chunks: by one thread, by halves of a team
    and of its halves. The chunks that are summed first have no pair of the second group."""
    lengths = [70, 70, 69, 64, 50, *range(1, 41), 0]
    two = directions == "two directions"
    problem = random_problem(variant, (70, len(lengths), 9, 65), lengths=lengths, reverse=two)
    first = with_threads(1, problem)
    assert_equal(first, evaluate(problem))
    for threads in THREADS:
        assert_same_bits(with_threads(threads, problem), first)


@pytest.mark.parametrize("variant", [Variant("rnn_tanh"), Variant("lstm", peephole=True)], ids=str)
def test_two_groups_of_sequences_so_long_that_chunks_are_summed_apart(variant: Variant) -> None:
    problem = random_problem(variant, (6000, 24, 3, 5))
    first = with_threads(1, problem)
    assert_equal(first, evaluate(problem))
    for threads in (2, 4):
        assert_same_bits(with_threads(threads, problem), first)


@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_rows_shared_unevenly_are_the_plain_step(variant: Variant) -> None:
    lengths = [40, *[1] * 30, 0, 17, 3, 40]
    problem = random_problem(variant, (40, len(lengths), 9, 17), lengths=lengths)
    torch.set_num_threads(3)
    assert_equal(evaluate(problem, kernel), evaluate(problem))


def test_number_of_threads_changed_between_forward_and_backward() -> None:
    problem = random_problem(Variant("lstm", peephole=True), (9, 5, 13, 144)).to(torch.float32)

    def changing(p: Problem) -> Outputs:
        torch.set_num_threads(4)
        outputs = kernel(p)
        torch.set_num_threads(3)
        return outputs

    assert_same_bits(evaluate(problem, changing), with_threads(1, problem))


def test_several_python_threads_each_with_several_of_the_kernels() -> None:
    problems = [random_problem(v, (9, 5, 13, 144)).to(torch.float32) for v in CELLS]
    expected = [with_threads(1, p) for p in problems]
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda p: with_threads(2, p), problems))
        for got, alone in zip(results, expected, strict=True):
            assert_same_bits(got, alone)


FORK = """
import os, torch
from tests.ops.layer import kernel
from tests.reference import Variant, evaluate, random_problem

torch.set_num_threads(2)
problem = random_problem(Variant("lstm"), (9, 5, 13, 144)).to(torch.float32)
expected = evaluate(problem, kernel)
child = os.fork()
if child == 0:
    torch.set_num_threads(3)  # the threads of before did not come along
    os._exit(0 if torch.equal(kernel(problem)[0], expected["y"]) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.equal(evaluate(problem, kernel)["grad x"], expected["grad x"])
"""


def in_a_process(*arguments: str) -> None:
    """Runs Python with these arguments, and fails where it does."""
    command = [sys.executable, "-X", "faulthandler", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fork_after_threads_ran_and_both_go_on() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    in_a_process("-c", FORK)


CLOSE = """
import os, time, torch
from concurrent.futures import ThreadPoolExecutor
from penstock import nn

layers = [kind(384, 384) for kind in (nn.RNN, nn.LSTM, nn.GRU)]
layers += [nn.LSTM(384, 384, peephole=True), nn.GRU(384, 384, reset_after=False)]
inputs = [(torch.randn(1, B, 384, requires_grad=True), torch.randn(1, B, 384)) for B in (1, 8)]

def calls(threads, layer, x, d_y, seconds, pause=0.0):
    torch.set_num_threads(threads)
    results, end = [], time.monotonic() + seconds
    while not results or time.monotonic() < end:
        y, _ = layer(x)
        results.append([y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], d_y)])
        time.sleep(pause)
    torch.set_num_threads(1)  # else torch's comparisons would start threads
    return results

def number_of_threads():
    return len(os.listdir("/proc/self/task"))

expected = {(layer, pair): calls(1, layer, *pair, 0)[0] for layer in layers for pair in inputs}
alone = number_of_threads()
calls(2, layers[1], *inputs[0], 0.1, pause=0.005)
assert number_of_threads() == alone, "calls far apart woke a thread"
with ThreadPoolExecutor(1) as other:
    for _ in range(100):
        other.submit(calls, 2, layers[1], *inputs[0], 0).result()
        calls(2, layers[1], *inputs[0], 0)
    assert number_of_threads() == alone + 1, "calls of two threads by turns woke a third"
for (layer, pair), once in expected.items():
    for result in calls(2, layer, *pair, 0.05):
        assert all(torch.equal(*both) for both in zip(result, once, strict=True)), layer
end = time.monotonic() + 60
while number_of_threads() == alone and time.monotonic() < end:
    calls(2, layers[1], *inputs[0], 0.05)
assert number_of_threads() > alone, "calls close to one another woke no thread"
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="threads are counted in /proc")
def test_small_calls_share_their_work_when_they_are_close_to_one_another() -> None:
    in_a_process("-c", CLOSE)


def test_without_torch_plain_threads_give_the_same_bits() -> None:
    in_a_process("-m", "tests.ops.threaded")


# ---- few rows, chunks, slices ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(4, 4, 9, 19), (16, 1, 65, 33), (1, 16, 3, 130)], ids=str)
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_weights_as_they_are_equal_packed_ones(variant: Variant, sizes, instruction_set: str) -> None:
    """Up to 16 (step, row) pairs the forward pass packs nothing; the same rows in a larger batch it does."""
    T, B, D, H = sizes
    more = random_problem(variant, (T, B + 1, D, H))
    fewer = more._replace(x=more.x[:, :B], state=tuple(t[:B] for t in more.state))
    packed, direct = run(more), run(fewer)
    assert_equal({"y": direct.y, "h_n": direct.h_n}, {"y": packed.y[:, :B], "h_n": packed.h_n[:, :B]})


@pytest.mark.parametrize("pairs", [15, 16, 17, 95, 96, 97, 255, 256, 257, 513])
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_any_number_of_pairs(variant: Variant, pairs: int) -> None:
    """Of one row and of two: around what is computed without packing, what the forward pass does in a chunk
    and what the backward pass does in one."""
    assert_equal(*both(random_problem(variant, (pairs, 1, 3, 5))))
    lengths = [pairs // 2, pairs - pairs // 2]
    assert_equal(*both(random_problem(variant, (max(lengths), 2, 3, 5), lengths=lengths)))


@pytest.mark.parametrize("batch", [255, 256, 257, 600])
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_steps_as_large_as_a_chunk_and_more_than_a_block_of_rows(variant: Variant, batch: int) -> None:
    lengths = [3, 2, 0, 1] * (batch // 4) + [3] * (batch % 4)
    assert_equal(*both(random_problem(variant, (3, batch, 3, 5))))
    assert_equal(*both(random_problem(variant, (3, batch, 3, 5), lengths=lengths)))


@pytest.mark.parametrize("depth", [63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_any_depth_of_a_product(variant: Variant, depth: int, instruction_set: str) -> None:
    assert_equal(*both(random_problem(variant, (3, 7, depth, 5))))
    assert_equal(*both(random_problem(variant, (3, 7, 5, depth))))


@pytest.mark.parametrize("batch", range(1, 21))
def test_any_number_of_rows(batch: int, instruction_set: str) -> None:
    """Tiles of 1 to 6 rows and 1 to 4 panels."""
    for cell, hidden in (("rnn_tanh", 16), ("rnn_tanh", 49), ("lstm", 17), ("gru", 33)):
        assert_equal(*both(random_problem(Variant(cell), (5, batch, 3, hidden))))


def both(problem: Problem) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The kernel's results and the plain step's."""
    return evaluate(problem, kernel), evaluate(problem)


# ---- memory ------------------------------------------------------------------------------------------------


def shifted(tensor: Tensor) -> Tensor:
    """The same values one element further into their memory, with NaN before and after."""
    memory = tensor.new_full((tensor.numel() + 2,), torch.nan)
    memory[1:-1] = tensor.flatten()
    return memory[1:-1].view(tensor.shape)


@pytest.mark.parametrize("sizes", [(9, 7, 6, 18), (2, 3, 65, 129)], ids=str)
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_every_tensor_off_its_alignment(variant: Variant, sizes, instruction_set: str) -> None:
    problem = random_problem(variant, sizes).to(torch.float32)

    def off(p: Problem) -> Outputs:
        return kernel(p.map(shifted))

    assert_same_bits(evaluate(problem, off), evaluate(problem, kernel))


@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_every_tensor_transposed(variant: Variant) -> None:
    problem = random_problem(variant, (9, 7, 6, 18)).to(torch.float32)

    def transposed(p: Problem) -> Outputs:
        return kernel(p.map(lambda t: t.mT.contiguous().mT if t.dim() > 1 else t.repeat_interleave(2)[::2]))

    assert_same_bits(evaluate(problem, transposed), evaluate(problem, kernel))


# ---- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(0, 3, 4, 17), (5, 0, 4, 17), (0, 0, 4, 17)], ids=str)
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_nothing_to_do(variant: Variant, sizes) -> None:
    """No steps or no rows: the states go through, gradients likewise, and those of the weights are zero."""
    problem = random_problem(variant, sizes)
    torch.set_num_threads(2)
    got = evaluate(problem, kernel)
    for name, state, grad in zip(problem.cell.state, problem.state, problem.grad_state_n, strict=True):
        assert torch.equal(got[f"{name}_n"], state)
        assert torch.equal(got[f"grad {name}_0"], grad)
    assert not any(got[name].any() for name in got if name.startswith(("grad weight", "grad bias", "grad x")))


@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_only_rows_of_no_length(variant: Variant) -> None:
    problem = random_problem(variant, (4, 3, 2, 17), lengths=[0, 0, 0])
    got = evaluate(problem, kernel)
    assert torch.equal(got["h_n"], problem.state[0])
    assert not got["y"].any()
    assert not got["grad x"].any()
    assert not got["grad weight_hh"].any()


@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_twenty_thousand_steps_equal_twenty_times_a_thousand(variant: Variant) -> None:
    problem = random_problem(variant, (20_000, 2, 2, 3))
    torch.set_num_threads(2)

    def pieces(p: Problem) -> Outputs:
        ys, c_steps, state = [], [], p.state
        for x in p.x.split(1000):
            y, state, c = kernel(p._replace(x=x, state=state))
            ys.append(y)
            c_steps += [] if c is None else [c]
        return torch.cat(ys), state, torch.cat(c_steps) if c_steps else None

    assert_equal(evaluate(problem, kernel), evaluate(problem, pieces))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("variant", CELLS, ids=str)
def test_not_a_number_stays_in_its_row(variant: Variant, value: float) -> None:
    """With the work shared by three threads, forward and in the gradient of the input."""
    problem = random_problem(variant, (9, 5, 13, 144)).to(torch.float32)
    x = problem.x.clone()
    x[4, 2] = value
    clean, got = with_threads(3, problem), with_threads(3, problem._replace(x=x))
    others = [0, 1, 3, 4]
    for name in ("y", "grad x"):
        assert torch.equal(got[name][:, others], clean[name][:, others]), name
    assert torch.equal(got["y"][:4, 2], clean["y"][:4, 2])
