"""Calibrated intervals."""

import numpy as np
import pytest
import torch
from torch import Tensor

from penstock.tasks.forecast.calibration import Calibration
from penstock.tasks.forecast.norms import Window

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]


def data(rows: int, seed: int) -> tuple[Tensor, Window, Tensor]:
    """Noise of twice the width that the quantiles think it has at step 0, and of half at step 1."""
    draw = np.random.default_rng(seed)
    scale = draw.uniform(0.5, 3, rows)
    noise = draw.normal(size=(rows, 2)) * [2, 0.5] * scale[:, None]
    normal = np.array([-1.2816, -0.6745, 0, 0.6745, 1.2816])
    quantiles = np.broadcast_to(normal * scale[:, None, None], (rows, 2, 5))
    window = Window(torch.zeros(rows), torch.from_numpy(scale).float(), torch.ones(rows))
    return torch.from_numpy(quantiles.astype(np.float32)), window, torch.from_numpy(noise.astype(np.float32))


def coverage(found: Tensor, targets: Tensor, low: int, high: int) -> list[float]:
    return ((found[..., low] <= targets) & (targets <= found[..., high])).float().mean(0).tolist()


def test_intervals_cover_new_data_as_they_should_at_every_step() -> None:
    calibration = Calibration(LEVELS, 2)
    found, window, targets = data(4000, seed=0)
    known = torch.ones_like(targets)
    assert torch.equal(calibration(found, window), found)
    scores = calibration.scores(found, window, targets, known)
    calibration.fit([scores[:1000], scores[1000:]])
    found, window, targets = data(4000, seed=1)
    better = calibration(found, window)
    assert coverage(found, targets, 0, 4) == pytest.approx([0.48, 0.99], abs=0.02)
    assert coverage(better, targets, 0, 4) == pytest.approx([0.8, 0.8], abs=0.02)
    assert coverage(better, targets, 1, 3) == pytest.approx([0.5, 0.5], abs=0.03)
    assert torch.equal(better[..., 2], found[..., 2])
    assert (better.diff(dim=2) >= 0).all()


def test_margins_by_hand() -> None:
    calibration = Calibration([0.25, 0.5, 0.75], 2)
    found = torch.tensor([-1.0, 0.0, 1.0]).expand(7, 2, 3)
    window = Window(torch.zeros(7), torch.full((7,), 2.0), torch.ones(7))
    targets = torch.tensor([0.0, 1.0, 2.0, -3.0, 5.0, 0.5, 9.0])[:, None].expand(7, 2)
    known = torch.ones(7, 2)
    known[1:, 1] = 0
    scores = calibration.scores(found, window, targets, known)
    assert scores[:, 0, 0].tolist() == [-0.5, 0, 0.5, 1, 2, -0.25, 4]
    calibration.fit([scores])
    # sorted: -0.5 -0.25 0 0.5 1 2 4; half of 7 + 1 is the fourth, and of 1 + 1 the only one
    assert calibration.margins[:, 0].tolist() == [0.5, -0.5]
    assert calibration(found, window)[0].tolist() == [[-2, 0, 2], [0, 0, 0]]


def test_a_step_that_was_never_known_keeps_its_intervals() -> None:
    calibration = Calibration([0.1, 0.5, 0.9], 1)
    found, window, targets = torch.zeros(3, 1, 3), Window(*[torch.ones(3)] * 3), torch.ones(3, 1)
    calibration.fit([calibration.scores(found, window, targets, torch.zeros(3, 1))])
    assert calibration.margins.tolist() == [[0.0]]
