"""Large outputs take memory that earlier ones have given back."""

import gc
import threading

import pytest
import torch

from penstock import _native
from penstock.ops import memory


@pytest.fixture(autouse=True)
def poisoned() -> None:
    """The memory itself is the subject here: nothing stands in for it."""


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    _native.free_kept_blocks()
    yield
    _native.free_kept_blocks()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_memory_is_used_again(dtype: torch.dtype) -> None:
    like = torch.empty(0, dtype=dtype)
    first = memory.empty((3, 1000, 999), like)
    assert first.shape == (3, 1000, 999)
    assert first.dtype == dtype
    assert first.is_contiguous()
    address = first.data_ptr()
    view = first[1]
    del first
    second = memory.empty((3, 1000, 999), like)
    assert second.data_ptr() != address, "a view still holds it"
    del view
    assert memory.empty((1000, 3, 999), like).data_ptr() == address


def test_small_ones_are_torchs_own() -> None:
    small = memory.empty((10, 10), torch.empty(0))
    del small
    assert _native.kept_blocks() == 0


def test_not_more_is_kept_than_was_in_use_at_once() -> None:
    like = torch.empty(0)
    for size in range(1, 20):
        memory.empty((size, 1 << 20), like)
        assert _native.kept_blocks() <= size << 22
    _native.free_kept_blocks()
    assert _native.kept_blocks() == 0


def test_what_was_used_last_stays() -> None:
    """After one large call, those of ordinary size find their memory again."""
    like = torch.empty(0)
    memory.empty((64, 1 << 20), like)
    address = memory.empty((1 << 20,), like).data_ptr()
    assert memory.empty((1 << 20,), like).data_ptr() == address
    assert _native.kept_blocks() == 1 << 22


def test_autograd_may_write_into_it() -> None:
    x = memory.empty((1 << 20,), torch.empty(0)).fill_(2.0).requires_grad_()
    (x * x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 4.0))


def test_threads_share_it_out() -> None:
    like, wrong = torch.empty(0), []

    def work(value: float) -> None:
        for _ in range(50):
            tensor = memory.empty((1 << 19,), like).fill_(value)
            if not torch.equal(tensor, torch.full_like(tensor, value)):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
