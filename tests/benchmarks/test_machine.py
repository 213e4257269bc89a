"""The machine and the versions a result belongs to."""

import json

import torch

from benchmarks import machine


def test_everything_a_figure_depends_on() -> None:
    facts = machine.provenance(["torch"])
    release, _, build = torch.__version__.partition("+")  # the build is not always in the package's version
    assert facts["peers"]["torch"] in (release, f"{release}+{build}")
    assert facts["cores"] >= 1
    for name in ("date", "cpu", "system", "python", "instructions"):
        assert facts[name], name
    assert "commit" in json.loads(json.dumps(facts))
