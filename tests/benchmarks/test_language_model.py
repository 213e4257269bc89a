"""The speed of a language model beside torch.nn, on a tiny text."""

import json
from pathlib import Path

import pytest

from benchmarks import language_model

TEXT = "What is the city but the people?\nTrue, the people are the city.\n" * 20


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_it_prints_and_writes_a_figure(cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, config, results = tmp_path / "text.txt", tmp_path / "small.yaml", tmp_path / "results.json"
    text.write_text(TEXT, encoding="utf-8")
    config.write_text(
        f"cell: {cell}\nlayers: 2\nhidden_size: 9\nembedding_size: 5\nwindow: 7\nbatch_rows: 3\n"
        "weight_dropout: 0.3\ndropout: 0.2\n",
        encoding="utf-8",
    )
    arguments = [str(text), "--config", str(config), "--threads", "1", "--seconds", "0.01"]
    assert language_model.main([*arguments, "--json", str(results)]) == 0
    assert f"2 x {cell} 9" in " ".join(capsys.readouterr().out.split())
    (row,) = json.loads(results.read_text(encoding="utf-8"))["results"]
    assert row["threads"] == 1
    assert row["ratio"] == pytest.approx(row["ours"] / row["torch"])


def test_wrong_gradients_give_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(language_model, "_on_torch", _with_other_weights(language_model._on_torch))
    text, config = tmp_path / "text.txt", tmp_path / "small.yaml"
    text.write_text(TEXT, encoding="utf-8")
    config.write_text("hidden_size: 9\nembedding_size: 5\nwindow: 7\nbatch_rows: 3\n", encoding="utf-8")
    assert language_model.main([str(text), "--config", str(config), "--threads", "1"]) == 1
    assert "FAIL" in capsys.readouterr().out


def _with_other_weights(on_torch):
    def changed(model):
        twin = on_torch(model)
        twin.recurrent1.weight_hh_l0.data.mul_(1.01)
        return twin

    return changed
