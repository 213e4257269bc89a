"""A small language to tag, and the command line that learns it."""

import random
import subprocess
import sys
from pathlib import Path

Tagged = list[tuple[str, str]]

PLACES = ("Oslo", "New York", "Rio de Janeiro")
SMALL = [
    *("--embedding-size", "16", "--character-hidden-size", "12", "--hidden-size", "24"),
    *("--batch-tokens", "256", "--epochs", "6", "--learning-rate", "0.01", "--dropout", "0.1"),
    *("--threads", "1"),
]


def sentences(count: int, seed: int) -> list[Tagged]:
    """Sentences with persons, most of whom were never seen before, and places of several words."""
    draw = random.Random(seed)
    return [_sentence(draw) for _ in range(count)]


def _sentence(draw: random.Random) -> Tagged:
    tokens: Tagged = []
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice("npo")
        if kind == "n":
            name = draw.choice("ABCD") + "".join(draw.choices("aeiou", k=4))
            tokens += [(name, "B-person"), ("sees", "O")]
        elif kind == "p":
            first, *rest = draw.choice(PLACES).split()
            tokens += [("in", "O"), (first, "B-place"), *((word, "I-place") for word in rest)]
        else:
            tokens += [("the", "O"), (draw.choice(("dog", "cat")), "O")]
    return tokens


def columns(data: list[Tagged]) -> str:
    """The sentences as a column file."""
    return "\n".join("".join(f"{token}\t{tag}\n" for token, tag in sentence) for sentence in data)


def penstock(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "penstock", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)
