"""The machine, the versions and the commit that a result belongs to."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import penstock
from benchmarks import peers
from penstock import _native


def provenance(peer_names: Sequence[str]) -> dict[str, Any]:
    """Everything that a figure depends on, for the JSON file; the versions of `peer_names` among it."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "penstock": penstock.__version__,
        "instructions": _instructions(),
        "peers": {name: peers.version(name) for name in peer_names},
        "torch": torch.__version__,
        "torch instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": cores(),
    }


def cores() -> int:
    """How many this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _instructions() -> str:
    """The instruction set in use; the best one where each call has its own."""
    name = _native.instruction_set()
    return _native.instruction_sets()[0] if name == "auto" else name


def _git(*arguments: str) -> str | None:
    """What git prints in this folder; None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
