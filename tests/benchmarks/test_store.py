"""Results on disk, and runs taken up again."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import Line
from benchmarks.store import Store

LINE = Line("inference", "lstm", "1×1×64×64", 1, 2.0, {"ours": 1.0, "torch": 2.0}, 5, notes=["a note"])


def facts(**changes: Any) -> dict[str, Any]:
    settings = {"grid": "short", "figures": ["inference"]}
    return {"commit": "abc", "cpu": "A CPU", "peers": {"torch": "2.13.0"}, "settings": settings, **changes}


def test_file_has_lines_figures_machine_and_commit_after_every_case(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.json"
    store = Store(path, facts(), resume=False)
    store.add("speed lstm", [LINE])
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["commit"] == "abc"
    assert saved["lines"][0]["times"] == {"ours": 1.0, "torch": 2.0}
    assert saved["figures"][0]["mean"] == pytest.approx(2.0)
    assert saved["figures"][0]["verdict"] == "PASS"


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Store(path, facts(), resume=False).add("speed lstm", [LINE])
    again = Store(path, facts(), resume=True)
    assert again.done == ["speed lstm"]
    assert again.lines == [LINE]
    assert Store(path, facts(), resume=False).lines == []


@pytest.mark.parametrize("changed", [{"commit": "def"}, {"cpu": "Another"}, {"settings": {"figures": []}}])
def test_lines_of_other_runs_are_not_mixed_in(changed: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Store(path, facts(), resume=False).add("speed lstm", [LINE])
    with pytest.raises(ValueError, match=f"--resume: .* has {next(iter(changed))}"):
        Store(path, facts(**changed), resume=True)


def test_nothing_is_written_without_a_file() -> None:
    store = Store(None, facts(), resume=True)
    store.add("speed lstm", [LINE])
    assert store.done == ["speed lstm"]
