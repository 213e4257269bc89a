"""Where to compute: the device, and how many CPU threads."""

import contextlib
from collections.abc import Iterator

import torch

from penstock.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device called "cpu", "cuda" or "mps", or with "auto" the best there is.

    Raises:
        InputError: this machine, or this torch, has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, available in there.items() if available))
    if not there[name]:
        raise InputError(f"--device {name}: torch finds no such device here")
    return torch.device(name)


@contextlib.contextmanager
def use_threads(threads: int | None) -> Iterator[None]:
    """Let torch compute on so many CPU threads while the block runs; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators that a step on `device` draws from.

    `torch.manual_seed` would do, but where CUDA is not in use it notes every call with its traceback.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draw from seeded generators while the block runs, and go on with the others as if it had not."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_generators(device, seed)
        yield
