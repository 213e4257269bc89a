"""Prints what pyproject.toml requires, one a line: `requirements.py build train dev`.

`build` is what the kernels are built with, every other word one of the extras. So the Makefile can install
these without building the package, and a change to one C++ file needs no new environment.
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(groups: list[str]) -> list[str]:
    """The package's own dependencies, then those of `groups`; KeyError for an unknown group."""
    pyproject = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project, build = pyproject["project"], pyproject["build-system"]["requires"]
    # scikit-build-core asks for CMake and Ninja by itself only when pip builds in an environment apart.
    known = {"build": [*build, "cmake>=3.18", "ninja"], **project["optional-dependencies"]}
    return project["dependencies"] + [line for group in groups for line in known[group]]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
