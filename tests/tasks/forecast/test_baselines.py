"""The simple forecasts beside the model."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from statsmodels.tools.sm_exceptions import ConvergenceWarning
from statsmodels.tsa import holtwinters

from penstock.tasks.forecast.baselines import baselines, compare, smoothing
from tests.tasks.forecast.files import waves
from tests.tasks.forecast.test_data import prepared


def test_baselines_by_hand(tmp_path: Path) -> None:
    values = [0.0, 10, 20] * 6 + [1.0, 10, 26, 2.0, 13, 20]
    _, layout, parts = prepared(
        tmp_path, {"a": values}, season=3, train_steps=12, dev_steps=6, test_steps=6, horizon=4
    )
    assert layout.scales["a"].naive == 0
    found = baselines(parts["test"])
    # origin 18: targets 1 10 26 2; 19: 10 26 2 13; 20: 26 2 13 20
    naive = [19, 10, 6, 18, 9, 25, 1, 12, 16, 8, 3, 10]
    seasonal = [1, 0, 6, 2, 0, 6, 1, 3, 6, 1, 3, 0]
    assert found["naive"]["mae"] == pytest.approx(sum(naive) / 12)
    assert found["seasonal naive"]["mae"] == pytest.approx(sum(seasonal) / 12)
    assert found["seasonal naive"]["rmse"] == pytest.approx((sum(x * x for x in seasonal) / 12) ** 0.5)


def test_baselines_know_nothing_of_the_gap(tmp_path: Path) -> None:
    values = [float(step) for step in range(40)]
    _, _, parts = prepared(tmp_path, {"a": values}, season=2, gap=2, horizon=1)
    found = baselines(parts["test"])
    assert found["naive"]["mae"] == pytest.approx(3)
    assert found["seasonal naive"]["mae"] == pytest.approx(4)  # two seasons back: one would lie in the gap


def test_a_series_without_a_value_yet_is_forecast_too(tmp_path: Path) -> None:
    """All methods are measured on the same targets."""
    values = [float("nan")] * 16 + [float(step) for step in range(4)]
    parts = prepared(tmp_path, {"a": values, "b": [1.0, 3.0] * 10}, season=2, horizon=1)[2]
    few = {name: figures["mae"] for name, figures in baselines(parts["test"]).items()}
    # a is not known before step 17; its forecasts for 16 to 19 are 0, 0, 1, 2 and 0, 0, 0, 1
    assert few["naive"] == pytest.approx((0 + 1 + 1 + 1 + 4 * 2) / 8)
    assert few["seasonal naive"] == pytest.approx((0 + 1 + 2 + 2 + 0) / 8)


def test_exponential_smoothing_beats_naive_on_a_seasonal_trend(tmp_path: Path) -> None:
    values = (waves(200, seed=1)[:, 0] + np.arange(200) * 0.3) * 1e6
    parts = prepared(tmp_path, {"a": values.tolist()}, season=12, horizon=12)[2]
    found = compare(parts["test"], 5)
    assert found is not None
    assert (found.title, len(found.data)) == ("at the same 5 origins", 5)
    assert list(found.methods) == ["naive", "seasonal naive", "ets"]
    assert found.methods["ets"]["mae"] < 0.8 * found.methods["seasonal naive"]["mae"]
    assert compare(parts["test"], 0) is None


def test_smoothing_of_constant_and_short_series(tmp_path: Path) -> None:
    parts = prepared(tmp_path, {"a": [5.0] * 30, "b": [1.0] * 20 + [3.0] * 10}, season=4)[2]
    assert smoothing(parts["test"].thinned(6))["mae"] < 1
    exact = prepared(tmp_path / "exact", {"a": [float(step % 4) for step in range(60)]}, season=4)[2]
    assert smoothing(exact["test"].thinned(2))["mae"] < 1e-3
    short = prepared(tmp_path / "short", {"a": [1.0, 2.0] * 5}, season=4, window=2, horizon=1)[2]
    assert smoothing(short["test"])["mae"] <= 1


@pytest.mark.parametrize(
    ("warning", "shown"), [(ConvergenceWarning("no"), False), (RuntimeWarning("overflow"), True)]
)
def test_only_the_warning_of_convergence_is_silenced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warning: Warning, shown: bool
) -> None:
    parts = prepared(tmp_path, {"a": [1.0, 2.0, 4.0] * 20}, season=3)[2]
    fit = holtwinters.ExponentialSmoothing.fit

    def warns(self, *arguments, **options):
        warnings.warn(warning, stacklevel=1)
        return fit(self, *arguments, **options)

    monkeypatch.setattr(holtwinters.ExponentialSmoothing, "fit", warns)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        smoothing(parts["test"].thinned(1))
    assert bool(seen) == shown
