"""The shared options: ranges, and options that a cell does not have."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.tasks import TASKS, get_config
from penstock.training.config import RecurrentOptions, TrainingOptions


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"average": 1},
        {"average": 0.9, "optimizer": "asgd"},
        {"non_monotone": 0},
        {"warmup": 1},
        {"clip_norm": -1},
        {"seed": -1},
        {"device": "tpu"},
        {"epoch": 3},
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingOptions(output=Path("model"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "gru", "peephole": True}, "peephole=True needs cell='lstm', got cell='gru'"),
        ({"cell": "rnn", "projection_size": 4}, "projection_size=4 needs cell='lstm', got cell='rnn'"),
        ({"reset_after": False}, "reset_after=False needs cell='gru', got cell='lstm'"),
        ({"nonlinearity": "relu"}, "nonlinearity='relu' needs cell='rnn', got cell='lstm'"),
        (
            {"hidden_size": 8, "projection_size": 8},
            "projection_size: expected less than hidden_size=8, got 8",
        ),
    ],
)
def test_an_option_that_the_cell_lacks_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RecurrentOptions(**options)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["Config", "EvaluateOptions", "PredictOptions"])
def test_every_option_says_what_it_is(task: str, name: str) -> None:
    for key, field in getattr(get_config(task), name).model_fields.items():
        assert field.description, f"{task} {name}.{key}"
