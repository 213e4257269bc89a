"""What the benchmark prints."""

import io

import pytest
from rich.console import Console, RenderableType

from benchmarks import report
from benchmarks.figures import FIGURES, Line

LINES = [
    Line("training-lstm", "lstm", "32×100×128×128 L2 bi ragged", 2, 2.5, {"ours": 4.0, "torch": 10.0}, 7),
    Line("training-lstm", "lstm-peephole", "16×200×1024×1024", 1, 1.0, {"ours": 1234.5, "torch": 1234.5}, 3),
    Line("inference", "lstm", "1×1×64×64", 1, 0.5, {"ours": 0.02, "torch": 0.03, "onnxruntime": 0.01}, 9),
    Line("inference", "gru", "1×1×64×64", 1, failures={"y": "1e-3 (plain torch 1e-7)"}),
    Line("inference", "lstm-peephole", "1×1×64×64", 1, 1.0, notes=["openvino left out: no peepholes"]),
]
FACTS = {
    "cpu": "A CPU",
    "cores": 2,
    "instructions": "avx2",
    "peers": {"torch": "2.13.0"},
    "commit": "abc",
    "modified": True,
    "date": "2026-11-20T10:00:00+00:00",
}


def printed(*things: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(*things)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_case_is_summed_up_in_a_line() -> None:
    text = report.summary("speed lstm 1×1×64×64", LINES)
    assert text == ("speed lstm 1×1×64×64: training-lstm 2.50x 1.00x, inference 0.50x [red]FAIL[/red] 1.00x")


def test_every_line_with_all_times() -> None:
    text = printed(*report.line_tables(LINES))
    for shown in ("16×200×1024×1024", "1234", "10.0", "0.0200", "2.50x", "FAIL"):
        assert shown in text


def test_table_of_figures_fits_100_columns_and_says_what_is_short() -> None:
    text = printed(
        report.figure_table(LINES, list(FIGURES.values()), {"bf16-forward": "not built yet"}, "All")
    )
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "mean short by 21%" in text
    assert "worst short by 17%" in text
    assert "not built yet" in text
    for figure in FIGURES.values():
        assert figure.what in text


def test_markdown_has_the_machine_the_places_and_the_verdicts() -> None:
    wanted = [FIGURES[name] for name in ("training-lstm", "inference", "step")]
    text = report.markdown(LINES, wanted, {"step": "not today"}, FACTS)
    assert text.startswith("A CPU, 2 cores, avx2; torch 2.13.0; commit abc with changes, 2026-11-20.")
    rows = text.splitlines()[2:]
    assert {row.count("|") for row in rows} == {9}
    assert rows[2].startswith("| training, LSTM, against torch.nn | 2 | 1.58x | 1.00x | lstm-peephole 16×200")
    assert rows[3].endswith("| FAIL: wrong results in 1 line |")
    assert rows[4].endswith("| not today |")


def test_limits_are_shown_where_there_are_some() -> None:
    limited = [Line("inference", "lstm", "1×1×64×64", 1, 0.5, limit=1.25)]
    assert "1.25x" in printed(*report.line_tables(limited))
    assert "limit" not in printed(*report.line_tables(LINES))
    assert "| 1.3 / 1 | 1.25 / 1.25 |" in report.markdown(limited, [FIGURES["inference"]], {}, FACTS)


def test_remarks_name_peers_left_out_and_failures() -> None:
    assert report.remarks([*LINES, LINES[-1]]) == [
        "lstm-peephole: openvino left out: no peepholes",
        "inference: gru 1×1×64×64, 1 thread FAIL relative errors y 1e-3 (plain torch 1e-7)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1.00"), (12.345, "12.3"), (99.96, "100"), (1234.5, "1234")],
)
def test_milliseconds_have_three_figures(value: float, text: str) -> None:
    assert report.milliseconds(value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [("inference", "1.3 / 1"), ("step", "≤ - / 15"), ("peak-forward", "85 / -"), ("first-call", "reported")],
)
def test_targets_are_shown(name: str, text: str) -> None:
    assert report.target(FIGURES[name]) == text
