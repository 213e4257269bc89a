"""Functions in processes of their own."""

import os

import pytest

from benchmarks import child


def test_a_function_runs_elsewhere_on_so_many_cores() -> None:
    assert child.run("os:getpid", {}, 1) != os.getpid()
    assert child.run("benchmarks.machine:cores", {}, 1) == 1


def test_arguments_and_result_go_through() -> None:
    assert (
        child.run("textwrap:shorten", {"text": "one two three", "width": 9, "placeholder": "!"}, 1)
        == "one two!"
    )


def test_a_failure_is_ours_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)textwrap:shorten.*failed.*placeholder too large"):
        child.run("textwrap:shorten", {"text": "one two three", "width": 1}, 1)
