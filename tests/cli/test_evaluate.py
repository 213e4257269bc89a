"""`penstock evaluate`: figures on the terminal and as JSON."""

import json
from pathlib import Path

import pytest

from penstock.cli import main
from tests.cli.conftest import Fails


def test_figures_are_shown_and_written(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    file = tmp_path / "figures.json"
    assert main(["evaluate", str(model), str(data / "test.csv"), "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["accuracy", f"{figures['metrics']['accuracy']:.4f}"] in rows
    for i, (label, row) in enumerate(figures["labels"].items()):
        scores = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        assert [label, *scores, str(row["count"])] in rows
        assert [label, *map(str, figures["confusion"][i])] in rows
    assert sum(map(sum, figures["confusion"])) == 60


def test_columns_may_have_other_names(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "other.tsv"
    table.write_text("say\tfeel\na good film\tgood\na bad film\tbad\n")
    assert main(["evaluate", str(model), str(table), "--text", "say", "--label", "feel"]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_mistakes_are_said(model: Path, data: Path, tmp_path: Path, fails: Fails) -> None:
    table = tmp_path / "test.csv"
    table.write_text("text,mood\nfine,good\nhm,mixed\n")
    expected = "test.csv, line 3: unknown label 'mixed'; expected one of 'bad', 'good'"
    assert expected in fails("evaluate", model, table)
    assert "DATA is missing" in fails("evaluate", model)
    assert "no such file" in fails("evaluate", model, tmp_path / "none.csv")
    assert "no column 'mood'" in fails("evaluate", model, data / "steps.csv", "--text", "label")
    assert "no such folder" in fails("evaluate", tmp_path / "none", table)
