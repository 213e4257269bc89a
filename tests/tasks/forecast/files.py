"""Small files to forecast."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tasks.forecast.config import Config
from tests.cli.command import ENVIRONMENT

SMALL = {
    "horizon": 12,
    "window": 36,
    "hidden_size": 24,
    "epochs": 25,
    "patience": 0,
    "learning_rate": 0.01,
    "batch_rows": 32,
    "threads": 1,
    "classical": 0,
}
FLAGS = [word for key, value in SMALL.items() for word in ("--" + key.replace("_", "-"), str(value))]


def small_config(data: Path, output: Path, **options: Any) -> Config:
    """A configuration that learns `seasonal` in a few seconds."""
    return Config.model_validate({**SMALL, "data": data, "output": output, **options})


def waves(steps: int, seed: int) -> np.ndarray:
    """(steps, 2): two noisy waves of 12 steps on a slow random walk, at different levels."""
    draw = np.random.default_rng(seed)
    t = np.arange(steps)
    levels = np.cumsum(draw.normal(0, 0.1, (steps, 2)), 0) + np.array([10, -200])
    shapes = np.stack([3 * np.sin(2 * np.pi * t / 12), 30 * np.cos(2 * np.pi * t / 12)], 1)
    return levels * [1, 10] + shapes + draw.normal(0, 1, (steps, 2)) * [0.5, 5]


def stamps(steps: int) -> list[str]:
    """Hours of 2020."""
    first = np.datetime64("2020-01-01T00", "h")
    return [str(first + step).replace("T", " ") + ":00" for step in range(steps)]


def seasonal(path: Path, steps: int = 500, seed: int = 0) -> Path:
    """A wide csv of `waves` by the hour, with the columns date, north, south."""
    rows = zip(stamps(steps), waves(steps, seed), strict=True)
    lines = [f"{stamp},{a:.4f},{b:.4f}" for stamp, (a, b) in rows]
    path.write_text("\n".join(["date,north,south", *lines]) + "\n", encoding="utf-8")
    return path


def shops(path: Path, steps: int = 240, coming: int = 0, seed: int = 0, shift: int = 0) -> Path:
    """A long csv of three shops by the day, whose sales follow promotions, the weather and the kind of shop.

    Columns: day, shop, sold; promo (yes or no) and price, known in advance; visitors, of the past; kind and
    size of the shop. `coming` rows more tell promo and price of days to come.
    """
    draw = np.random.default_rng(seed)
    lines = ["shop,day,sold,promo,price,visitors,kind,size"]
    for shop, (kind, size) in {"a": ("city", 10), "b": ("city", 20), "c": ("village", 30)}.items():
        days = np.datetime64("2021-01-01") + shift + np.arange(steps + coming)
        promo = draw.random(steps + coming) < 0.3
        price = draw.uniform(1, 3, steps + coming)
        visitors = draw.normal(100, 10, steps + coming)
        before = np.concatenate([[100], visitors[:-1]])
        sold = size * (5 + 4 * promo - price) + (before - 100) + draw.normal(0, 1, steps + coming)
        for i in range(steps + coming):
            known = f"{'yes' if promo[i] else 'no'},{price[i]:.3f}"
            value, seen = (f"{sold[i]:.3f}", f"{visitors[i]:.2f}") if i < steps else ("", "")
            lines.append(f"{shop},{days[i]},{value},{known},{seen},{kind},{size}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


SHOPS = {
    "id_column": "shop",
    "time_column": "day",
    "target": ["sold"],
    "known_columns": ["promo", "price"],
    "past_columns": ["visitors"],
    "static_columns": ["kind", "size"],
    "horizon": 6,
    "window": 12,
}


def run_python(code: str, *arguments: Any) -> str:
    """What a Python process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
