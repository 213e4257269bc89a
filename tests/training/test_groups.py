"""Gradual unfreezing and learning rates of layers."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penstock.nn import LSTM
from penstock.training import fit
from penstock.training.groups import LayerGroups, layer_groups
from penstock.training.saved import read_model
from tests.cli.command import penstock
from tests.training.toy import ToyJob, ToyModel, toy_config, troubled


def learning(model: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}


def test_a_stack_has_a_group_for_each_layer() -> None:
    layer = LSTM(3, 5, num_layers=3, bidirectional=True, proj_size=2, peephole=True)
    groups = layer_groups(layer)
    assert [len(group) for group in groups] == [len(list(layer.parameters())) // 3] * 3
    assert groups[1][0] is layer.weight_ih_l1
    assert layer_groups(nn.Linear(2, 2))[0][0].shape == (2, 2)


def test_groups_are_unfrozen_from_the_top() -> None:
    model = ToyModel(8, 0.5)
    groups = LayerGroups(model, unfreeze_every=2, layer_decay=0.5)
    found = []
    for epoch in range(6):
        groups.freeze(epoch)
        found.append(learning(model))
    top, two, three = {"output"}, {"output", "recurrent"}, {"output", "recurrent", "embedding"}
    assert found == [top, top, two, two, three, three]
    groups.freeze(0)
    assert learning(model) == top
    rates = {id(group["params"][0]): group["rate"] for group in groups.for_optimizer()}
    assert rates[id(model.output.weight)] == 1
    assert rates[id(model.recurrent.weight_ih_l0)] == 0.5
    assert rates[id(model.embedding.weight)] == 0.25


def test_what_is_frozen_for_good_stays_so() -> None:
    model = ToyModel(8, 0.5)
    model.embedding.weight.requires_grad = False
    groups = LayerGroups(model, unfreeze_every=1, layer_decay=1)
    groups.freeze(10)
    assert learning(model) == {"output", "recurrent"}


def test_groups_are_all_of_a_model() -> None:
    class Forgetful(ToyModel):
        def layer_groups(self) -> list[list[nn.Parameter]]:
            return super().layer_groups()[1:]

    with pytest.raises(ValueError, match="layer_groups: expected every trained parameter"):
        LayerGroups(Forgetful(8, 0.5), 0, 1)


def weights_by_step(folder: Path, steps: list[int], **options: Any) -> list[dict[str, Tensor]]:
    """The weights before some steps of a run."""
    found: list[dict[str, Tensor]] = []

    class Watched(ToyModel):
        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            if self.training and self.steps in steps:
                found.append({name: weight.clone() for name, weight in self.state_dict().items()})
            return super().forward(batch)

    class WatchedJob(ToyJob):
        def __init__(self, config: Any, folder: Path) -> None:
            super().__init__(config, folder)
            model = Watched(config.hidden_size, config.dropout)
            model.load_state_dict(self.model.state_dict())
            self.model = model

    fit(WatchedJob, toy_config(folder, **options))
    return found


def test_frozen_layers_do_not_change(tmp_path: Path) -> None:
    first, second, third, last = weights_by_step(
        tmp_path / "model", [0, 8, 16, 24], unfreeze_every=1, weight_decay=0.1, optimizer="adamw"
    )
    changed = [
        {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        for before, after in ((first, second), (second, third), (third, last))
    ]
    assert changed == [{"output"}, {"output", "recurrent"}, {"output", "recurrent", "embedding"}]


def test_lower_layers_learn_more_slowly(tmp_path: Path) -> None:
    plain = {"optimizer": "sgd", "momentum": 0, "learning_rate": 1e-3, "schedule": "constant", "warmup": 0}
    start, even = weights_by_step(tmp_path / "even", [0, 1], **plain)
    again, graded = weights_by_step(tmp_path / "graded", [0, 1], layer_decay=0.5, **plain)
    for name, before in start.items():
        assert torch.equal(before, again[name])
        share = {"output": 1, "recurrent": 0.5, "embedding": 0.25}[name.split(".")[0]]
        torch.testing.assert_close(graded[name] - before, share * (even[name] - before), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("step", [3, 8, 11])  # there are 8 batches in an epoch
def test_an_interrupted_and_resumed_run_equals_the_unbroken_one(tmp_path: Path, step: int) -> None:
    def stop(now: int, loss: Tensor) -> Tensor:
        if now == step:
            signal.raise_signal(signal.SIGINT)
        return loss

    options = {"unfreeze_every": 1, "layer_decay": 0.5, "average": 0.9}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(ToyJob, toy_config(whole, **options))
    assert fit(troubled(stop), toy_config(broken, **options)).interrupted
    fit(ToyJob, toy_config(broken, resume=True, **options))
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (broken, whole))
    for number, state in theirs["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(ours["optimizer_states"][0]["state"][number][name], value), name


def test_two_processes_wait_for_no_frozen_layer(tmp_path: Path) -> None:
    table = tmp_path / "moods.csv"
    rows = [f"{word} film number {i},{word}\n" for i in range(120) for word in ("good", "bad")]
    table.write_text("text,label\n" + "".join(rows))
    penstock(
        "train", "classify", table, "--text", "text", "--output", tmp_path / "model", "--processes", "2",
        "--unfreeze-every", "1", "--epochs", "3", "--hidden-size", "4", "--threads", "1",
    )  # fmt: skip
    assert read_model(tmp_path / "model").metrics["epochs"] == 3


def test_other_unfreezing_cannot_be_resumed(tmp_path: Path) -> None:
    def stop(step: int, loss: Tensor) -> Tensor:
        if step == 3:
            raise KeyboardInterrupt
        return loss

    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        fit(troubled(stop), toy_config(output, unfreeze_every=1, checkpoint_minutes=1e-9))
    with pytest.raises(ValueError, match="unfreeze_every=1, got 2"):
        fit(ToyJob, toy_config(output, unfreeze_every=2, resume=True))
