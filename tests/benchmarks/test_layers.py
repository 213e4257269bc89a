"""The benchmark of the layers: no time without correct results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import layers
from benchmarks.layers import KINDS, Contest, Shape


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layers.GRIDS, "short", [Shape(3, 5, 4, 7), Shape(3, 5, 4, 7, ragged=True)])


def run(json_file: Path) -> tuple[int, list[dict[str, Any]]]:
    code = layers.main(["--cells", "lstm", "--threads", "1", "--seconds", "0", "--json", str(json_file)])
    return code, json.loads(json_file.read_text())["lines"]


def test_correct_layers_are_timed(tmp_path: Path) -> None:
    code, lines = run(tmp_path / "times.json")
    assert code == 0
    assert [line["shape"]["ragged"] for line in lines] == [False, True]
    for line in lines:
        assert not line["failures"]
        assert all(line[mode][side] > 0 for mode in ("forward", "training") for side in ("ours", "torch"))


def test_a_wrong_result_has_no_time_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = layers.call_ours

    def wrong(*inputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, state = right(*inputs)
        return y * (1 + 1e-5), state

    monkeypatch.setattr(layers, "call_ours", wrong)
    code, lines = run(tmp_path / "times.json")
    assert code == 1
    assert "FAIL" in capsys.readouterr().out
    for line in lines:
        assert "y" in line["failures"]
        assert line["forward"] is None
        assert line["training"] is None


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "shape",
    [Shape(3, 5, 4, 7, L=2, bidirectional=True, ragged=True), Shape(3, 5, 4, 7, strided=True)],
    ids=str,
)
def test_every_kind_and_shape_passes_its_gate(name: str, shape: Shape) -> None:
    assert Contest(KINDS[name], shape).inaccuracies() == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cells", "lstm,rnx"], "got 'rnx'"),
        (["--threads", "1,0"], "got '1,0'"),
        (["--grid", "wide"], "'wide'"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        layers.main(arguments)
    assert complaint in capsys.readouterr().err
