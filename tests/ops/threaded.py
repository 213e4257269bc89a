"""Every cell with one to four threads, and several Python threads at once, without torch in the process.

    python -m tests.ops.threaded

Each result must have the same bits for every number of threads, in every run, whatever else runs. Without
torch the kernels start plain threads, whose synchronisation ThreadSanitizer understands; `make sanitize` runs
this under it. NumPy is all that is needed.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from penstock import _native

THREADS = (1, 2, 3, 4)
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "lstm_peephole": 4, "gru": 3, "gru_reset_before": 3}


class Case(NamedTuple):
    """One layer in one direction: T, B, D, H, and R < H with a projection."""

    cell: str
    T: int
    B: int
    D: int
    H: int
    R: int
    ragged: bool = False
    reverse: bool = False


def cases() -> Iterator[Case]:
    """What each way of sharing the work is chosen for (csrc/sizes.hpp)."""
    for cell in GATES:
        wide = 288 if cell.startswith("rnn") else 144
        yield Case(cell, 30, 50, 9, 33, 33)  # threads own rows
        yield Case(cell, 30, 50, 9, 33, 33, ragged=True, reverse=True)
        yield Case(cell, 9, 5, 9, wide, wide, ragged=True)  # few rows: threads own units
        yield Case(cell, 60, 5, 9, wide + 3, wide + 3, reverse=True)  # more than a chunk of gradients
    yield Case("lstm", 30, 50, 9, 33, 20, ragged=True)
    yield Case("lstm_peephole", 9, 5, 9, 144, 65)


Arrays = dict[str, np.ndarray]


def inputs(case: Case) -> Arrays:
    """x, the weights, the states and a gradient for each output, all random."""
    random = np.random.default_rng(0)
    rows = GATES[case.cell] * case.H
    T, B, H, R = case.T, case.B, case.H, case.R
    shapes = {
        "x": (T, B, case.D), "h0": (B, R), "weight_ih": (rows, case.D), "weight_hh": (rows, R),
        "bias_ih": (rows,), "bias_hh": (rows,), "d_y": (T, B, R), "d_h_n": (B, R),
    }  # fmt: skip
    if case.cell.startswith("lstm"):
        shapes |= {"c0": (B, H), "d_c_n": (B, H), "d_cell_states": (T, B, H)}
    if R != H:
        shapes["weight_hr"] = (R, H)
    if case.cell == "lstm_peephole":
        shapes["weight_peephole"] = (3 * H,)
    given = {
        name: (random.standard_normal(shape) / (2 * shape[-1]) ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }
    if case.ragged:
        given["lengths"] = random.integers(0, T + 1, B)
    return given


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")


def unwritten(*shape: int) -> np.ndarray:
    """An output full of NaN, so that what a kernel fails to write is seen."""
    return np.full(shape, np.nan, np.float32)


def results(case: Case, given: Arrays, threads: int) -> Arrays:
    """Every output and gradient."""
    T, B, H, R = case.T, case.B, case.H, case.R
    has_c = "c0" in given
    common: dict[str, Any] = {
        "cell": case.cell, "weights": [given.get(name) for name in WEIGHTS], "x": given["x"],
        "h0": given["h0"], "c0": given.get("c0"), "lengths": given.get("lengths"), "batch_sizes": None,
        "reverse": case.reverse, "threads": threads,
    }  # fmt: skip
    reserve = np.empty(T * B * _native.reserve_size(case.cell, H, R, False), np.float32)
    out = {"y": unwritten(T, B, R), "h_n": unwritten(B, R)}
    if has_c:
        out |= {"c_n": unwritten(B, H), "cell_states": unwritten(T, B, H)}
    sequences: dict[str, Any] = {"c_n": None, "cell_states": None} | out
    _native.forward(**common, **sequences, reserve=reserve)

    d_weights = {f"d_{name}": np.full_like(given[name], np.nan) for name in WEIGHTS if name in given}
    d_in = {f"d_{name}": np.full_like(given[name], np.nan) for name in ("x", "h0", "c0") if name in given}
    _native.backward(
        **common, reserve=reserve, d_x=d_in["d_x"], d_h0=d_in["d_h0"], d_c0=d_in.get("d_c0"),
        d_y=given["d_y"], d_h_n=given["d_h_n"], d_c_n=given.get("d_c_n"),
        d_cell_states=given.get("d_cell_states"), d_weights=[d_weights.get(f"d_{name}") for name in WEIGHTS],
    )  # fmt: skip
    inference = dict(sequences, y=unwritten(T, B, R))
    _native.forward(**common, **inference, reserve=None)
    return out | d_in | d_weights | {"y without gradients": inference["y"]}


def differences(got: Arrays, expected: Arrays) -> list[str]:
    """The names of the results whose bits differ, or that hold a NaN."""
    same = {name: got[name].tobytes() == expected[name].tobytes() for name in expected}
    return [name for name in expected if not same[name] or np.isnan(got[name]).any()]


def check(case: Case) -> list[str]:
    """What differs among the numbers of threads, and where they all run at once."""
    given = inputs(case)
    expected = results(case, given, 1)
    with ThreadPoolExecutor(len(THREADS)) as pool:
        at_once = list(pool.map(lambda threads: results(case, given, threads), THREADS))
    wrong = []
    for threads, together in zip(THREADS, at_once, strict=True):
        alone = results(case, given, threads)
        for how, got in (("alone", alone), ("with others", together)):
            names = differences(got, expected)
            wrong += [f"{case}, {threads} threads {how}: {', '.join(names)}"] * bool(names)
    return wrong


def main() -> int:
    wrong = []
    for instruction_set in _native.instruction_sets():
        _native.set_instruction_set(instruction_set)
        wrong += [f"{instruction_set}: {line}" for case in cases() for line in check(case)]
    assert "torch" not in sys.modules
    print("\n".join(wrong) or f"the same bits with {THREADS} threads: {len(list(cases()))} cases")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
