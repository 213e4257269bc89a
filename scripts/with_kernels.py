"""Runs a module of Python with another build of the kernels: with_kernels.py BUILD MODULE [ARGUMENT ...].

BUILD is the folder in which CMake has built them. `make sanitize` uses it; the package itself stays as it is.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

NAME = "penstock._native"


def load(build: Path) -> None:
    """Make the kernels of `build` those of this process; penstock must not be imported yet."""
    (path,) = build.glob("_native*.so")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module


if __name__ == "__main__":
    build, module, *arguments = sys.argv[1:]
    load(Path(build))
    sys.argv = [module, *arguments]
    sys.path[0] = str(Path.cwd())
    runpy.run_module(module, run_name="__main__", alter_sys=True)
