"""The command line as a real process, and in this one."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "penstock"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning:penstock"}


def penstock(
    *arguments: str | Path, stdin: str | bytes | None = None, cwd: Path | None = None, code: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `penstock`, and expect the exit code (None: any)."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=data,
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    result = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
    assert code is None or result.returncode == code, result.stderr
    return result
