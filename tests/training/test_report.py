"""What is printed and written about a run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from penstock.training.curves import draw
from penstock.training.layers import Layer
from penstock.training.report import Report, duration, model_card, show_layers, show_report


def console() -> Console:
    return Console(file=io.StringIO(), width=100, highlight=False)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def report(**changes: object) -> Report:
    values = {
        "output": Path("runs/a very long name of a folder that must not be broken into several lines/model"),
        "metrics": {"dev": {"loss": 0.25, "macro_f1": 0.5}, "test": {"loss": 0.3, "macro_f1": 0.4321}},
        "monitor": "macro_f1",
        "parameters": 1234567,
        "epochs": 7,
        "best_epoch": 5,
        "seconds": 185.2,
        "interrupted": False,
    }
    return Report(**{**values, **changes})


@pytest.mark.parametrize(
    ("seconds", "words"), [(1.23, "1.2 s"), (59.9, "59.9 s"), (185, "3 min 05 s"), (7860, "2 h 11 min")]
)
def test_durations_are_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_report_names_figures_and_places() -> None:
    shown = console()
    show_report(shown, report())
    lines = text(shown).splitlines()
    assert any(line.split() == ["macro", "f1", "0.5000", "0.4321"] for line in lines)
    assert any(str(report().output) in line for line in lines)
    assert "1,234,567" in text(shown)
    assert "the best, of epoch 5 of 7" in text(shown)
    assert "interrupted" not in text(shown)


def test_an_interrupted_run_says_so() -> None:
    shown = console()
    show_report(shown, report(metrics={}, epochs=0, best_epoch=0, interrupted=True))
    assert "interrupted; --resume goes on from here" in text(shown)
    assert "no epoch has ended" in text(shown)
    assert "curves" not in text(shown)


def test_layers_are_shown_with_their_sum() -> None:
    shown = console()
    rows = [Layer("input", "TokenInput", (2, 3), 0, 12), Layer("output", "Linear 2 -> 3", None, 9, 0)]
    show_layers(shown, rows)
    lines = [line.split() for line in text(shown).splitlines()]
    assert ["input", "TokenInput", "2", "x", "3", "12", "frozen"] in lines
    assert ["trained", "9"] in lines


def test_the_model_card_has_the_figures() -> None:
    card = model_card("classify", report(), {"data": "reviews.csv"})
    assert "| macro f1 | 0.5000 | 0.4321 |" in card
    assert "`reviews.csv`" in card


@pytest.mark.parametrize("epochs", [1, 60])
def test_curves_are_a_picture(tmp_path: Path, epochs: int) -> None:
    history = [
        {"epoch": i, "train_loss": 1 / i, "dev_loss": 1.2 / i, "dev_macro_f1": i / 100}
        for i in range(1, epochs + 1)
    ]
    draw(tmp_path / "curves.png", history, "macro_f1", epochs, "classify: model")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
