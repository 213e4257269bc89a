"""What may be searched, and what is said of a space that is none."""

from pathlib import Path
from typing import Any

import pytest

from penstock import tasks
from penstock.errors import InputError
from penstock.search.space import DEFAULTS, Choices, Range, default_space, read_space
from penstock.tasks.classify.config import Config


def config(**options: Any) -> Config:
    return Config(data=Path("train.csv"), output=Path("found"), **options)


def test_ranges_and_choices() -> None:
    found = read_space(
        config(),
        {
            "learning_rate": {"low": "1e-4", "high": 0.01, "log": True},  # 1e-4 is text in YAML
            "hidden_size": {"low": 32, "high": 96, "step": 32},
            "cell": ["lstm", "gru"],
            "peephole": {"choices": [False, True]},
        },
    )
    assert found == {
        "learning_rate": Range(1e-4, 0.01, log=True),
        "hidden_size": Range(32, 96, step=32, whole=True),
        "cell": Choices(("lstm", "gru")),
        "peephole": Choices((False, True)),
    }


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"hiden_size": [1]}, "unknown option 'hiden_size' (did you mean 'hidden_size'?)"),
        ({}, "at least one option"),
        ({"output": ["a"]}, "output cannot be searched"),
        ({"threads": [1, 2]}, "threads cannot be searched"),
        ({"dev_fraction": [0.1, 0.2]}, "dev_fraction cannot be searched"),
        ({"cell": []}, "cell: expected a list"),
        ({"cell": [["lstm"]]}, "cell: expected a list"),
        ({"cell": ["lstm", "elman"]}, "cell: 'elman': input should be 'lstm', 'gru' or 'rnn'"),
        ({"cell": {"low": 1, "high": 2}}, "cell: expected a list of choices, for its values are no numbers"),
        ({"hidden_size": 64}, "hidden_size: expected a list of choices, or low and high"),
        ({"hidden_size": {"low": 1}}, "hidden_size: expected a list of choices, or low and high"),
        ({"hidden_size": {"low": 1, "high": 2, "max": 3}}, "or low and high (and log or step)"),
        ({"hidden_size": {"low": 1, "high": 2.5}}, "hidden_size: high: expected a whole number, got 2.5"),
        ({"hidden_size": {"low": True, "high": 2}}, "hidden_size: low: expected a whole number, got True"),
        ({"hidden_size": {"low": 2, "high": 2}}, "hidden_size: expected low below high, got 2 and 2"),
        (
            {"hidden_size": {"low": 0, "high": 2}},
            "hidden_size: 0: input should be greater than or equal to 1",
        ),
        ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "dropout: log needs low above 0"),
        ({"dropout": {"low": 0.1, "high": 0.5, "log": "yes"}}, "dropout: log: expected true or false"),
        ({"dropout": {"low": 0.1, "high": 0.5, "step": -1}}, "dropout: step: expected a number above 0"),
        ({"dropout": {"low": 0.1, "high": 1.5}}, "dropout: 1.5: input should be less than or equal to 1"),
    ],
)
def test_mistakes_are_said(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read_space(config(), entry)
    assert sentence in str(error.value)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_task_has_a_space_of_its_own(task: str) -> None:
    empty = tasks.get_config(task).Config(data="data", output="found")
    assert set(default_space(task, empty)) == set(DEFAULTS[task])


@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_task_has_a_job_of_its_name(task: str) -> None:
    assert tasks.get_job(task).task == task


def test_what_is_given_is_not_searched() -> None:
    given = {"learning_rate": 0.001, "dropout": 0.3}
    left = default_space("classify", config(**given))
    assert set(left) == set(DEFAULTS["classify"]) - set(given)
    everything: dict[str, Any] = {
        name: read_space(config(), {name: entry})[name].ends[0]
        for name, entry in DEFAULTS["classify"].items()
    }
    with pytest.raises(InputError, match="nothing is left to search"):
        default_space("classify", config(**everything))
