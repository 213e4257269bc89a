"""`python -m benchmarks.layers` from its arguments to its table."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks import contest as contests
from benchmarks import layers, peers
from benchmarks.figures import FIGURES
from benchmarks.grid import Shape

COMPARED = "inference,training-lstm,training-ragged"


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layers.GRIDS, "short", (Shape(3, 5, 4, 7), Shape(3, 5, 4, 7, ragged=True)))


def run(json_file: Path, *more: str) -> tuple[int, dict[str, Any]]:
    few = ["--cells", "lstm", "--threads", "1", "--seconds", "0", "--peers", "torch", "--checks", COMPARED]
    code = layers.main([*few, "--json", str(json_file), *more])
    return code, json.loads(json_file.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("quotients_of_medians")
def test_correct_layers_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(tmp_path / "times.json", "--markdown", str(tmp_path / "table.md"))
    assert code == 0
    figures = [line["figure"] for line in result["lines"]]
    assert figures == ["inference", "training-lstm", "inference", "training-ragged"]
    for line in result["lines"]:
        assert not line["failures"]
        assert line["times"]["ours"] > 0
        assert line["value"] == pytest.approx(line["times"]["torch"] / line["times"]["ours"])
    assert [figure["figure"]["name"] for figure in result["figures"]] == [
        "training-lstm",
        "training-ragged",
        "inference",
    ]
    assert "inference, against the best peer" in capsys.readouterr().out
    assert "inference, against the best peer" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_a_wrong_result_has_no_time_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = contests.call_ours

    def wrong(*inputs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        y, state = right(*inputs)
        return y * (1 + 1e-5), state

    monkeypatch.setattr(contests, "call_ours", wrong)
    code, result = run(tmp_path / "times.json")
    assert code == 1
    assert "FAIL" in capsys.readouterr().out
    for line in result["lines"]:
        assert "y" in line["failures"]
        assert line["value"] is None
        assert line["times"] == {}


def test_a_run_is_resumed_without_measuring_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = run(tmp_path / "times.json")
    cases = [
        case.key
        for check in layers.CHECKS
        for case in check.cases(layers._settings(layers._parser().parse_args(["--cells", "lstm"]), ["torch"]))
    ]
    assert first["done"] == [key for key in cases if key.startswith("speed")]
    monkeypatch.setattr(layers.speed, "measure", lambda *_: pytest.fail("measured again"))
    _, second = run(tmp_path / "times.json", "--resume")
    assert second["lines"] == first["lines"]


def test_a_run_without_peers_has_times_and_no_comparison(tmp_path: Path) -> None:
    _, result = run(tmp_path / "times.json", "--peers", "none")
    assert {line["value"] for line in result["lines"]} == {None}
    assert all(line["times"]["ours"] > 0 for line in result["lines"])


def test_every_figure_is_given_by_one_check() -> None:
    given = [name for check in layers.CHECKS for name in check.FIGURES]
    assert sorted(given) == sorted(FIGURES)


def test_all_peers_are_those_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "missing", lambda name: [] if name == "torch" else [name])
    code, result = run(tmp_path / "times.json", "--peers", "all")
    assert code == 0
    assert list(result["peers"]) == ["torch"]
    assert "JAX: left out, jax not installed" in capsys.readouterr().out


def test_a_peer_that_is_named_must_be_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "missing", lambda name: ["jax"] if name == "jax" else [])
    with pytest.raises(SystemExit, match="2"):
        layers.main(["--peers", "torch,jax"])
    assert "--peers: jax needs jax, not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cells", "lstm,rnx"], "got 'rnx'"),
        (["--checks", "speed"], "got 'speed'"),
        (["--peers", "torch,theano"], "got 'theano'"),
        (["--threads", "1,0"], "got '1,0'"),
        (["--seconds", "-1"], "got '-1'"),
        (["--seconds", "nan"], "got 'nan'"),
        (["--grid", "wide"], "'wide'"),
        (["--resume"], "--resume: needs --json"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        layers.main(arguments)
    assert complaint in capsys.readouterr().err


def test_resuming_another_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "times.json")
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "times.json", "--resume", "--seconds", "1")
    assert "--resume" in capsys.readouterr().err
