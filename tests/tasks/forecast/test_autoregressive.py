"""Forecasts drawn step by step."""

from typing import Any

import numpy as np
import pytest
import torch

from penstock.tasks.forecast.autoregressive import AutoregressiveForecaster, fill_forward, quantiles_of
from tests.tasks.forecast.test_model import batch_of, build, with_features


def drawn(**options: Any) -> AutoregressiveForecaster:
    model = build(decoder="autoregressive", **{"loss": "gaussian", **options})
    assert isinstance(model, AutoregressiveForecaster)
    return model


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_paths_are_what_a_teacher_who_repeats_them_would_have_forecast(cell: str) -> None:
    """The step after the window, and each one after a drawn value, comes from what training computes."""
    model = drawn(cell=cell, layers=2, features=3, past=2, series_embedding=True, samples=2, missing=True)
    batch = with_features(batch_of(4, 36, 12), 3, past=2)
    seen = []
    sample = model.output.sample
    model.output.sample = lambda raw, window: seen.append(raw) or sample(raw, window)
    paths = model.paths(batch)
    assert paths.shape == (4, 2, 12)
    raw = torch.cat(seen, 1).unflatten(0, (4, 2))
    for number in range(2):
        taught = model({**batch, "targets": paths[:, number]}).raw
        torch.testing.assert_close(raw[:, number], taught, rtol=1e-4, atol=1e-5)


def test_draws_are_seeded_and_leave_the_generator_alone() -> None:
    model, batch = drawn(), batch_of(3, 36, 12)
    torch.manual_seed(5)
    first = model.paths(batch)
    after = torch.rand(3)
    assert torch.equal(first, model.paths(batch))
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert not torch.equal(first, drawn(seed=2).paths(batch))


def test_targets_are_no_part_of_the_forecast() -> None:
    model, batch = drawn(missing=True), batch_of(3, 36, 12)
    other = {**batch, "targets": batch["targets"] + 100, "known": batch["known"] * 0}
    found = [model.forecast(model(one), one) for one in (batch, other)]
    assert torch.equal(*found)


def test_a_target_reaches_only_what_comes_after_it() -> None:
    model, batch = drawn(), batch_of(2, 36, 12)
    moved = {**batch, "targets": batch["targets"].clone()}
    moved["targets"][:, 5] += 3
    change = (model(moved).raw - model(batch).raw).abs().sum((0, 2))
    assert not change[:6].any()
    assert (change[6:] > 0).all()


def test_what_is_unknown_is_the_value_before_it() -> None:
    values = torch.tensor([[0.0, 5, 9, 7, 9, 9]])
    known = torch.tensor([[0.0, 1, 0, 1, 0, 0]])
    assert fill_forward(values, known).tolist() == [[0, 5, 5, 7, 7, 7]]
    model, batch = drawn(missing=True), batch_of(2, 36, 12)
    batch["known"][:, 3] = 0
    repeated = {**batch, "targets": batch["targets"].clone()}
    repeated["targets"][:, 3] = 1e4
    assert torch.equal(model(batch).raw, model(repeated).raw)


def test_quantiles_of_paths_are_those_of_numpy() -> None:
    paths = torch.randn(3, 50, 4, dtype=torch.float64)
    wanted = np.quantile(paths.numpy(), [0.1, 0.5, 0.93], axis=1).transpose(1, 2, 0)
    found = quantiles_of(paths, [0.1, 0.5, 0.93])
    assert found.shape == (3, 4, 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
