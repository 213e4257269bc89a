"""What an installed wheel must pass with nothing but NumPy beside it: no torch, no source tree."""

import json
import subprocess
import sys
from importlib.metadata import version

PROBE = """
import json, sys
import penstock
from penstock import _native
print(json.dumps({
    "version": penstock.__version__,
    "native": _native.__file__,
    "heavy": sorted({"torch", "lightning", "pydantic"} & set(sys.modules)),
}))
"""


def probe() -> dict:
    """What a fresh interpreter sees, isolated from this folder and from PYTHONPATH."""
    done = subprocess.run([sys.executable, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kernels_load_without_torch() -> None:
    seen = probe()
    assert seen["native"].endswith((".so", ".pyd"))
    assert seen["heavy"] == []


def test_version_is_the_distribution_s() -> None:
    assert probe()["version"] == version("penstock")
