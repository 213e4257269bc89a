"""What is to be reached, and the arithmetic of whether it is."""

import pytest

from benchmarks.figures import FIGURES, Figure, Line, reached

SPEED = Figure("speed", "how fast", mean=2.0, worst=1.2)
TIME = Figure("time", "how long", "us", worst=15.0, lower_is_better=True)


def lines(figure: Figure, *values: float | None) -> list[Line]:
    return [Line(figure.name, "lstm", f"case {k}", 1, value) for k, value in enumerate(values)]


def test_targets_are_those_agreed_on() -> None:
    targets = {name: (figure.mean, figure.worst) for name, figure in FIGURES.items()}
    assert targets == {
        "training-lstm": (2.0, 1.2),
        "training-gru-rnn": (5.0, 2.0),
        "training-ragged": (6.0, 2.5),
        "inference": (1.3, 1.0),
        "step": (None, 15.0),
        "step-numpy": (None, 1.0),
        "peak-forward": (85.0, None),
        "peak-training": (75.0, None),
        "threads": (1.8, None),
        "bf16-forward": (1.6, None),
        "bf16-training": (1.4, None),
        "memory": (None, 1.0),
        "tagger": (2.5, None),
        "growth": (None, 1.15),
        "first-call": (None, None),
        "training-keras": (None, None),
        "training-jax": (None, None),
    }
    assert {name for name, figure in FIGURES.items() if figure.lower_is_better} == {
        "step",
        "memory",
        "growth",
    }


def test_geometric_mean_and_worst_with_its_place() -> None:
    result = reached(SPEED, [*lines(SPEED, 8.0, 2.0, None, 4.0), *lines(TIME, 0.1)])
    assert result.count == 3
    assert result.mean == pytest.approx(4.0)
    assert result.worst == 2.0
    assert result.worst_case == "lstm case 1, 1 thread"


def test_limit_in_the_mean_and_of_the_worst_line() -> None:
    near, far = lines(SPEED, 3.0, 1.0)
    near.limit, far.limit = 4.0, 9.0
    result = reached(SPEED, [near, far])
    assert (result.limit, result.worst_limit) == (pytest.approx(6.0), 9.0)
    near.limit = None
    assert reached(SPEED, [near, far]).limit is None


def test_the_worst_of_what_should_be_low_is_the_highest() -> None:
    assert reached(TIME, lines(TIME, 3.0, 20.0, 10.0)).worst == 20.0


@pytest.mark.parametrize(
    ("figure", "values", "verdict"),
    [
        (SPEED, [2.0, 2.0], "PASS"),
        (SPEED, [10.0, 1.2], "PASS"),
        (SPEED, [1.5, 1.5], "mean short by 25%"),
        (SPEED, [1.99, 1.99], "mean short by 0.5%"),
        (SPEED, [10.0, 0.9], "worst short by 25%"),
        (SPEED, [1.0, 1.0], "mean short by 50%; worst short by 17%"),
        (SPEED, [], "not measured"),
        (SPEED, [None], "not measured"),
        (TIME, [15.0, 3.0], "PASS"),
        (TIME, [3.0, 18.0], "worst over by 20%"),
        (Figure("first", "reported"), [1.0], ""),
    ],
)
def test_verdict(figure: Figure, values: list[float | None], verdict: str) -> None:
    assert reached(figure, lines(figure, *values)).verdict == verdict


def test_no_pass_over_a_wrong_result() -> None:
    right, wrong = lines(SPEED, 9.0, None)
    wrong.failures = {"y": "1e-3"}
    assert reached(SPEED, [right, wrong]).verdict == "FAIL: wrong results in 1 line"
