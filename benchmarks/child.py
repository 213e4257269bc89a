"""A function in a process of its own, on cores of its own: for what can be set or measured only once.

TensorFlow and JAX take their threads when they start, and the peak memory of a process never falls.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(function: str, arguments: Mapping[str, Any], threads: int) -> Any:
    """What `function` ("module:name") returns, through JSON both ways, in a new process with so many cores.

    Raises RuntimeError with the end of what the process printed if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.child", function, json.dumps(arguments), str(threads)]
        done = subprocess.run(
            [*command, str(result)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{function}{dict(arguments)} failed:\n{done.stderr[-2000:]}")
        return json.loads(result.read_text())


def main(function: str, arguments: str, threads: str, result: str) -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: int(threads)])
    module, _, name = function.partition(":")
    value = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(result).write_text(json.dumps(value))


if __name__ == "__main__":
    main(*sys.argv[1:])
