"""Small files to classify."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np

from penstock.tasks.classify.config import Config

_GOOD = ["good", "great", "fine", "lovely", "splendid"]
_BAD = ["bad", "awful", "poor", "dreadful", "dull"]
_OTHER = ["the", "film", "a", "plot", "actor", "was", "and", "of", "with", "scene", "it", "this", "that"]

SMALL = {
    "hidden_size": 12,
    "embedding_size": 12,
    "epochs": 3,
    "learning_rate": 0.02,
    "batch_rows": 32,
    "threads": 1,
}
FLAGS = [word for key, value in SMALL.items() for word in ("--" + key.replace("_", "-"), str(value))]


def small_config(data: Path, output: Path, **options: Any) -> Config:
    """A configuration that learns `reviews` or `series` in about a second."""
    return Config.model_validate({**SMALL, "data": data, "output": output, **options})


def review(draw: random.Random, mood: str) -> str:
    """A text with two words of its mood somewhere in it."""
    words = draw.choices(_OTHER, k=draw.randint(3, 25))
    for _ in range(2):
        words.insert(draw.randrange(len(words)), draw.choice(_GOOD if mood == "good" else _BAD))
    return " ".join(words)


def reviews(path: Path, count: int, seed: int = 0) -> Path:
    """A csv of `count` texts with the columns text and mood."""
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "mood"])
        for _ in range(count):
            mood = draw.choice(["good", "bad"])
            writer.writerow([review(draw, mood), mood])
    return path


def waves(count: int, seed: int) -> list[tuple[np.ndarray, str]]:
    """Two-channel series of 8 to 20 steps that rise, fall or stay."""
    random_ = np.random.default_rng(seed)
    kinds = {"rise": 1.0, "fall": -1.0, "stay": 0.0}
    found = []
    for i in range(count):
        kind = list(kinds)[i % 3]
        steps = int(random_.integers(8, 21))
        trend = kinds[kind] * np.linspace(0, 3, steps)
        values = np.stack([5 + trend, 100 * np.ones(steps)], 1) + random_.normal(0, 0.3, (steps, 2))
        found.append((values.astype(np.float32), kind))
    return found


def ts(path: Path, count: int, seed: int = 0) -> Path:
    """A .ts file of `waves`."""
    lines = [
        "@problemName waves",
        "@univariate false",
        "@dimensions 2",
        "@classLabel true fall rise stay",
        "@data",
    ]
    for values, kind in waves(count, seed):
        lines.append(":".join([*(",".join(f"{x:.4f}" for x in channel) for channel in values.T), kind]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def long_table(path: Path, count: int, seed: int = 0) -> Path:
    """A csv of `waves`, one row a step, the columns run, clock, x, y, label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "clock", "x", "y", "label"])
        for number, (values, kind) in enumerate(waves(count, seed)):
            for clock, (x, y) in enumerate(values):
                writer.writerow([f"run-{number}", clock, f"{x:.4f}", f"{y:.4f}", kind])
    return path
