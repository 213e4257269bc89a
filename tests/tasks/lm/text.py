"""A small text to learn, and the command line that learns it."""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

from penstock.tasks.lm.config import Config

SMALL = [
    *("--window", "24", "--batch-rows", "16", "--embedding-size", "16", "--hidden-size", "48"),
    *("--dropout", "0", "--learning-rate", "0.02", "--epochs", "6", "--threads", "1"),
]


def sentences(count: int, seed: int) -> str:
    """Sentences that are easy with some memory: everybody sees something of their own."""
    draw = random.Random(seed)
    things = {"Ann": "her", "Bob": "his", "the cats": "their"}
    lines = []
    for _ in range(count):
        who = draw.choice(list(things))
        lines.append(f"{who} saw {things[who]} {draw.choice(['boat', 'house', 'garden'])}.\n")
    return "".join(lines)


def unigram_nats(text: str) -> float:
    """The entropy of the characters of a text, each by itself."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log(count / len(text)) for count in counts.values())


def small_config(data: Path, output: Path, **options: Any) -> Config:
    """A configuration that trains in a second or two."""
    small = {"window": 8, "batch_rows": 4, "embedding_size": 6, "hidden_size": 8, "threads": 1, "epochs": 3}
    return Config.model_validate({"data": data, "output": output, **small, **options})
