"""The results on disk: one JSON file, whole after every case, from which a run can be taken up again."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES, Line, reached
from penstock.files import atomic_write

MUST_AGREE = ("commit", "cpu", "peers", "settings")
"""What makes the lines of two runs one result."""


class Store:
    """The lines so far, and the cases that are done."""

    def __init__(self, path: Path | None, facts: dict[str, Any], resume: bool) -> None:
        """facts: machine and settings. ValueError if the file to resume is of other ones."""
        self.path, self.facts = path, facts
        self.done: list[str] = []
        self.lines: list[Line] = []
        if resume and path is not None and path.exists():
            self._take_up(json.loads(path.read_text(encoding="utf-8")))

    def add(self, key: str, lines: Sequence[Line]) -> None:
        self.done.append(key)
        self.lines += lines
        self.save()

    def save(self) -> None:
        if self.path is None:
            return
        content = {
            **self.facts,
            "figures": [_summary(name, self.lines) for name in self.facts["settings"]["figures"]],
            "done": self.done,
            "lines": [asdict(line) for line in self.lines],
        }
        with atomic_write(self.path) as file:
            json.dump(content, file, indent=1, ensure_ascii=False)

    def _take_up(self, saved: dict[str, Any]) -> None:
        for name in MUST_AGREE:
            if saved[name] != self.facts[name]:
                raise ValueError(
                    f"--resume: {self.path} has {name} {saved[name]}, this run {self.facts[name]}"
                )
        self.done = saved["done"]
        self.lines = [Line(**line) for line in saved["lines"]]


def _summary(name: str, lines: Sequence[Line]) -> dict[str, Any]:
    result = reached(FIGURES[name], lines)
    return {**asdict(result), "verdict": result.verdict}
