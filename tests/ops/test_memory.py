"""Large outputs take memory that earlier ones have given back (csrc/tensors.hpp)."""

import gc
import threading

import pytest
import torch

import penstock.nn
from penstock import _native


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    _native.free_kept_blocks()
    yield
    _native.free_kept_blocks()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_memory_is_used_again(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    first = _native.empty((3, 1000, 999), name)
    assert first.shape == (3, 1000, 999)
    assert first.dtype == dtype
    assert first.is_contiguous()
    address = first.data_ptr()
    view = first[1]
    del first
    second = _native.empty((3, 1000, 999), name)
    assert second.data_ptr() != address, "a view still holds it"
    del view
    assert _native.empty((1000, 3, 999), name).data_ptr() == address


def test_a_layer_keeps_the_memory_of_large_tensors_only() -> None:
    """At most of its results are kept: y with 300 steps, not with three, where it is torch's own."""
    layer = penstock.nn.GRU(3, 128)
    for steps, kept in ((3, 0), (300, 2 << 20)):
        with torch.no_grad():
            layer(torch.zeros(steps, 10, 3))
        assert _native.kept_blocks() == kept


def test_not_more_is_kept_than_was_in_use_at_once() -> None:
    for size in range(1, 20):
        _native.empty((size, 1 << 20), "float32")
        assert _native.kept_blocks() <= size << 22
    _native.free_kept_blocks()
    assert _native.kept_blocks() == 0


def test_what_was_used_last_stays() -> None:
    """After one large call, those of ordinary size find their memory again."""
    _native.empty((64, 1 << 20), "float32")
    address = _native.empty((1 << 20,), "float32").data_ptr()
    assert _native.empty((1 << 20,), "float32").data_ptr() == address
    assert _native.kept_blocks() == 1 << 22


def test_autograd_may_write_into_it() -> None:
    x = _native.empty((1 << 20,), "float32").fill_(2.0).requires_grad_()
    (x * x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 4.0))


def test_threads_share_it_out() -> None:
    wrong = []

    def work(value: float) -> None:
        for _ in range(50):
            tensor = _native.empty((1 << 19,), "float32").fill_(value)
            if not torch.equal(tensor, torch.full_like(tensor, value)):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
