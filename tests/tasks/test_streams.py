"""What the verbs write, whole lines and parts of lines."""

from pathlib import Path

import pytest

from penstock.tasks.streams import Part, write_lines


def test_parts_stand_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["one", Part("two"), Part(" three"), "", "four"]
    write_lines(lines, None)
    write_lines(lines, tmp_path / "out.txt")
    expected = "one\ntwo three\nfour\n"
    assert capsys.readouterr().out == expected
    assert (tmp_path / "out.txt").read_text() == expected
