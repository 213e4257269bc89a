"""Sigmoid and tanh of the kernels against the correctly rounded value, on every instruction set."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock import _native
from penstock.cells import CELLS

pytestmark = pytest.mark.usefixtures("instruction_set")

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan]


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow and with small results to full precision."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


FUNCTIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}


def spread_floats() -> NDArray[np.float32]:
    """2^22 values over all bit patterns of float32 with random last bits, and the special ones."""
    last_bits = np.random.default_rng(0).integers(0, 1 << 10, 1 << 22, dtype=np.uint32)
    patterns = (np.arange(1 << 22, dtype=np.uint32) << np.uint32(10)) + last_bits
    return np.concatenate([patterns.view(np.float32), np.array(SPECIAL, np.float32)])


def spread_doubles() -> NDArray[np.float64]:
    """2^18 values over all bit patterns of float64, as many where the functions bend, and the special."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 1 << 64, 1 << 18, dtype=np.uint64).view(np.float64)
    return np.concatenate([patterns, random.uniform(-50, 50, 1 << 18), SPECIAL])


def through_the_kernel(name: str, x: NDArray) -> NDArray:
    y = np.full_like(x, 123)  # no value of either function, and no NaN either
    _native.activation(name, x, y)
    return y


def place(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The place of each value among all float32 values in order, so that one ulp is a difference of one."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_two_ulp_in_float32(name: str) -> None:
    x = spread_floats()
    with np.errstate(invalid="ignore"):  # signalling NaN among the patterns
        exact = FUNCTIONS[name](x.astype(np.float64)).astype(np.float32)
    y = through_the_kernel(name, x)
    assert np.array_equal(np.isnan(y), np.isnan(x))
    number = ~np.isnan(x)
    far = np.abs(place(y) - place(exact))[number]
    assert far.max() <= 2, f"{far.max()} ulp at {x[number][far.argmax()]!r}"
    assert np.array_equal(np.signbit(y[number]), np.signbit(exact[number]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_a_few_roundings_in_float64(name: str) -> None:
    x = spread_doubles()
    with np.errstate(invalid="ignore", under="ignore"):
        exact = FUNCTIONS[name](x)
    y = through_the_kernel(name, x)
    assert np.array_equal(np.isnan(y), np.isnan(x))
    number = ~np.isnan(x)
    denormal = 2 * np.finfo(np.float64).smallest_subnormal
    bound = 1e-15 * np.abs(exact[number]) + denormal
    assert (np.abs(y - exact)[number] <= bound).all()
    assert np.array_equal(np.signbit(y[number]), np.signbit(exact[number]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(dtype: type) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal], dtype)
    expected = {"sigmoid": [0.5, 0.5, 1, 0, 0.5], "tanh": [0.0, -0.0, 1, -1, x[-1]]}
    for name, values in expected.items():
        y = through_the_kernel(name, x)
        assert y.tobytes() == np.array(values, dtype).tobytes(), name


@pytest.mark.parametrize("count", [0, 1, 15, 17, 33])
def test_any_number_of_values_and_nothing_beyond_them(count: int) -> None:
    x = np.linspace(-3, 3, count + 1, dtype=np.float32)[1:]
    y = np.full(count + 1, 7, np.float32)
    _native.activation("tanh", x, y[:count])
    np.testing.assert_allclose(y[:count], np.tanh(x), rtol=1e-6)
    assert y[count] == 7


def test_wrong_arguments() -> None:
    x, y = np.zeros(3, np.float32), np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="name: expected sigmoid or tanh, got relu"):
        _native.activation("relu", x, x)
    with pytest.raises(ValueError, match=r"y: expected shape \(3,\), got \(4,\)"):
        _native.activation("tanh", x, y)
    with pytest.raises(TypeError, match="float32 or float64"):
        _native.activation("tanh", x.astype(np.int32), y)


def test_measured_peak_is_a_rate() -> None:
    slow, fast = _native.measure_peak(0.005), _native.measure_peak(0.05)
    assert 0.5 < slow < 2 * fast < 4000  # GFLOP/s of any machine these kernels run on
    with pytest.raises(ValueError, match="seconds: expected more than 0, got 0"):
        _native.measure_peak(0)


def test_a_measured_product_is_a_rate() -> None:
    for size in ((1, 1, 1), (17, 100, 50), (64, 700, 256)):
        slow, fast = (_native.measure_product(*size, seconds) for seconds in (0.005, 0.05))
        assert 0 < slow < 2 * fast < 4000
    with pytest.raises(ValueError, match="rows, depth, columns: expected more than 0"):
        _native.measure_product(1, 0, 1, 0.01)
    with pytest.raises(ValueError, match="seconds: expected more than 0, got 0"):
        _native.measure_product(1, 1, 1, 0)


@pytest.mark.parametrize("cell", CELLS)
def test_measured_gates_are_a_rate(cell: str) -> None:
    for backwards in (False, True):
        slow, fast = (_native.measure_gates(cell, backwards, seconds) for seconds in (0.005, 0.05))
        assert 0.001 < slow < 2 * fast < 1000  # units a nanosecond
    with pytest.raises(ValueError, match="seconds: expected more than 0, got 0"):
        _native.measure_gates(cell, False, 0)


def test_measured_reading_is_a_rate() -> None:
    few, many = np.ones(1024, np.float32), np.ones(25_000_000, np.float32)
    small, large = _native.measure_reading(few, 0.005), _native.measure_reading(many, 0.05)
    assert 0.1 < large < 2 * small < 20_000  # GB/s
    with pytest.raises(ValueError, match="array: expected at least 1024 numbers, got 1023"):
        _native.measure_reading(few[1:], 0.01)
    with pytest.raises(ValueError, match="array: expected a contiguous array"):
        _native.measure_reading(many[::2], 0.01)
    with pytest.raises(TypeError, match="array: expected dtype float32"):
        _native.measure_reading(few.astype(np.float64), 0.01)
    with pytest.raises(ValueError, match="seconds: expected more than 0, got 0"):
        _native.measure_reading(few, 0)
