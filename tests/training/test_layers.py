"""The summary of layers."""

from pathlib import Path

from torch import nn

from penstock.training import layers
from penstock.training.loading import measuring_loader
from tests.training.test_loading import make_job


def test_shapes_and_parameters_are_those_of_the_model(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.model.embedding.requires_grad_(False)
    job.model.train()
    batch = next(iter(measuring_loader(job, job.dev_data)))
    rows, steps = batch["inputs"].shape
    found = {layer.name: layer for layer in layers.layers(job.model, batch)}
    assert found["embedding"].shape == (rows, steps, 4)
    assert found["recurrent"].shape == (rows, steps, 8)
    assert found["output"].shape == (rows, 2)
    assert (found["embedding"].parameters, found["embedding"].frozen) == (0, 12)
    assert found["recurrent"].parameters == 4 * 8 * (4 + 8 + 2)
    assert sum(layer.parameters for layer in found.values()) == layers.count(job.model)
    assert job.model.training
    assert not any(module._forward_hooks for module in job.model.modules())


def test_layers_that_are_not_called_have_no_shape(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    job.model.add_module("spare", nn.Linear(2, 2))
    batch = next(iter(measuring_loader(job, job.dev_data)))
    assert layers.layers(job.model, batch)[-1].shape is None
