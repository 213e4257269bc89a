"""The machine and the versions a result belongs to."""

import importlib.metadata
import json

import torch

from benchmarks import machine


def test_everything_a_figure_depends_on() -> None:
    facts = machine.provenance(["torch"])
    assert facts["torch"] == torch.__version__
    assert facts["peers"] == {"torch": importlib.metadata.version("torch")}  # may lack the build
    assert facts["cores"] >= 1
    for name in ("date", "cpu", "system", "python", "instructions"):
        assert facts[name], name
    assert "commit" in json.loads(json.dumps(facts))
