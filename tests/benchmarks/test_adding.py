"""The adding problem, over a few steps."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import adding
from benchmarks.adding import GATED, NOTHING_LEARNT, TARGET, Adder, Result, sequences


def test_the_sum_is_that_of_the_two_marked_numbers() -> None:
    x, sums = sequences(500, 61, torch.Generator().manual_seed(1))
    numbers, markers = x[..., 0], x[..., 1]
    assert x.shape == (61, 500, 2)
    assert torch.equal(markers[:30].sum(0), torch.ones(500))
    assert torch.equal(markers[30:].sum(0), torch.ones(500))
    assert torch.allclose((numbers * markers).sum(0), sums)
    assert (sums - 1).pow(2).mean() == pytest.approx(NOTHING_LEARNT, rel=0.2)


@pytest.mark.parametrize("cell", GATED)
def test_gates_start_with_memories_of_all_lengths(cell: str) -> None:
    """The gate that keeps the state is 1 - 1 / (1 + u), u from 1 to T - 1, in two biases."""
    H, T = 400, 1000
    layer = Adder(cell, H, T).recurrent
    bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).detach()
    kept = bias[H : 2 * H].exp()
    assert 1 <= kept.min() < 20
    assert T - 20 < kept.max() < T
    assert kept.mean() == pytest.approx(T / 2, rel=0.2)
    others = bias.view(-1, H)[[0, *range(2, len(bias) // H)]]
    if cell == "lstm":
        assert torch.equal(others[0], -bias[H : 2 * H])
        others = others[1:]
    assert not others.any()


def test_a_gru_learns_it_where_the_sequence_is_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "adding.json"
    words = [
        "--cells",
        "gru",
        "--steps",
        "30",
        "--hidden-size",
        "32",
        "--updates",
        "400",
        "--json",
        str(file),
    ]
    assert adding.main(words) == 0
    saved = json.loads(file.read_text())
    (result,) = saved["results"]
    assert result["error"] < TARGET
    assert 100 <= result["learnt"] <= 400
    assert saved["settings"] == {
        "steps": 30,
        "hidden_size": 32,
        "batch": 32,
        "updates": 400,
        "learning_rate": 0.01,
        "seed": 1,
    }
    shown = capsys.readouterr().out
    assert f"{result['error']:.4f}" in shown
    assert "PASS" in shown


def test_a_layer_with_gates_that_has_not_learnt_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--steps", "30", "--hidden-size", "4", "--updates", "1"]
    assert adding.main(["--cells", "lstm", *words]) == 1
    assert "short" in capsys.readouterr().out
    assert adding.main(["--cells", "rnn", *words]) == 0
    assert not Result("lstm", TARGET, None, 1.0).passed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cells", "gru,elman"], "expected some of lstm,gru,rnn, got 'elman'"),
        (["--steps", "3"], "expected a whole number of at least 4, got '3'"),
        (["--updates", "0"], "expected a whole number of at least 1, got '0'"),
    ],
)
def test_mistakes_are_said(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        adding.main(words)
    assert sentence in capsys.readouterr().err
