"""States that go on, dropouts that do what they say, and ties."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penstock.tasks.lm.data import IGNORED
from penstock.tasks.lm.metrics import LmMetric
from penstock.tasks.lm.model import LanguageModel, joined, locked_dropout
from tests.tasks.lm.text import small_config

TOKENS = 11


def make(**options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(small_config(Path("a"), Path("b"), **{"layers": 2, **options}), tokens=TOKENS)


def batch(inputs: Tensor, begins: bool = True, targets: Tensor | None = None) -> dict[str, Tensor]:
    rows = len(inputs)
    return {
        "inputs": inputs,
        "targets": inputs if targets is None else targets,
        "lengths": torch.full((rows,), inputs.shape[1]),
        "begins": torch.full((rows,), begins),
        "characters": torch.full((rows,), float(inputs.shape[1])),
    }


CELLS = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "rnn", "nonlinearity": "relu"},
    {"cell": "gru", "reset_after": False},
    {"cell": "lstm", "peephole": True, "projection_size": 5},
    {"cell": "lstm", "tie": True},
    {"cell": "gru", "adaptive_softmax": [4, 7], "hidden_size": 16},
]


@pytest.mark.parametrize("options", CELLS, ids=str)
def test_windows_with_carried_states_are_one_long_sequence(options: dict[str, Any]) -> None:
    model = make(**options).eval()
    inputs = torch.randint(TOKENS, (3, 20))
    whole = model(batch(inputs))
    parts = [
        model(batch(part, begins=number == 0)).nats
        for number, part in enumerate(inputs.split([7, 1, 7, 5], 1))
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole.nats, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        states, steps = model.beginning(), []
        for step in inputs.split(1, 1):
            last, states = model.run(step, states)
            steps.append(last)
    torch.testing.assert_close(torch.cat(steps, 1), whole.last, rtol=1e-5, atol=1e-6)


def test_rows_that_begin_forget() -> None:
    model = make().eval()
    inputs = torch.randint(TOKENS, (2, 6))
    fresh = model(batch(inputs)).last
    mixed = batch(inputs)
    mixed["begins"] = torch.tensor([True, False])
    again = model(mixed).last
    torch.testing.assert_close(again[0], fresh[0])
    assert not torch.allclose(again[1], fresh[1])


def test_no_gradient_goes_back_into_the_last_window() -> None:
    model = make()
    for begins in (True, False):
        outputs = model(batch(torch.randint(TOKENS, (2, 6)), begins))
        model.loss(outputs, batch(torch.randint(TOKENS, (2, 6)))).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    carried = model.carried()
    assert carried is not None
    assert not any(tensor.requires_grad for state in carried for tensor in state)


def test_what_is_carried_can_be_taken_up() -> None:
    one, two = make().eval(), make().eval()
    inputs = torch.randint(TOKENS, (3, 8))
    one(batch(inputs))
    two.carry(one.carried())
    following = batch(torch.randint(TOKENS, (3, 8)), begins=False)
    assert torch.equal(one(following).nats, two(following).nats)
    assert make().carried() is None


def test_rows_are_joined() -> None:
    model = make().eval()
    inputs = torch.randint(TOKENS, (2, 5))
    whole = model.run(inputs, model.beginning())[1]
    rows = [model.run(row[None], model.beginning())[1] for row in inputs]
    for ours, theirs in zip(joined(rows), whole, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_locked_dropout_drops_the_same_at_every_step() -> None:
    x = torch.ones(40, 7, 50)
    dropped = locked_dropout(x, 0.4, training=True)
    assert (dropped == dropped[:, :1]).all()
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert (dropped == 0).float().mean() == pytest.approx(0.4, abs=0.05)
    assert not (dropped[0] == dropped[1]).all(), "each row has its own"
    assert locked_dropout(x, 0.4, training=False) is x


def test_embedding_dropout_drops_whole_tokens_everywhere() -> None:
    model = make(embedding_dropout=0.5).train()
    inputs = torch.arange(TOKENS).repeat(4, 3)
    x = model._embedded(inputs)
    share = x / model.embedding(inputs)
    assert set(share.round().unique().tolist()) == {0.0, 2.0}
    for token in range(TOKENS):
        assert len(share[inputs == token].round().unique()) == 1
    model.eval()
    assert torch.equal(model._embedded(inputs), model.embedding(inputs))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_weight_dropout_drops_recurrent_weights_for_the_whole_window(cell: str) -> None:
    model = make(cell=cell, layers=1, weight_dropout=0.5, dropout=0, hidden_size=16).train()
    layer = model.get_submodule("recurrent1")
    seen: list[Tensor] = []

    def note(module: Any, _x: Any, _y: Any) -> None:
        seen.append(module.weight_hh_l0.detach().clone())

    hook = layer.register_forward_hook(note)
    inputs = torch.randint(TOKENS, (2, 6))
    outputs = model(batch(inputs))
    model.loss(outputs, batch(inputs)).backward()
    hook.remove()
    (dropped,) = seen
    weight = layer.get_parameter("weight_hh_l0")
    kept = dropped != 0
    assert kept.float().mean() == pytest.approx(0.5, abs=0.12)
    torch.testing.assert_close(dropped[kept], 2 * weight.detach()[kept])
    assert weight.grad is not None
    assert (weight.grad[~kept] == 0).all()
    assert (weight.grad[kept] != 0).any()
    with torch.no_grad():
        plain = make(cell=cell, layers=1, dropout=0, hidden_size=16)
        plain.get_submodule("recurrent1").get_parameter("weight_hh_l0").copy_(dropped)
        torch.testing.assert_close(plain.run(inputs, plain.beginning())[0], outputs.last)


def test_nothing_is_dropped_at_evaluation() -> None:
    shares = {"dropout": 0.5, "input_dropout": 0.5, "embedding_dropout": 0.5, "weight_dropout": 0.5}
    model, plain = make(**shares), make(dropout=0)
    inputs = torch.randint(TOKENS, (2, 6))
    assert not torch.allclose(model(batch(inputs)).nats, plain(batch(inputs)).nats)
    torch.testing.assert_close(model.eval()(batch(inputs)).nats, plain.eval()(batch(inputs)).nats)


def test_penalties_cost_what_they_say() -> None:
    model = make(activation_penalty=2.0, change_penalty=3.0, dropout=0)
    data = batch(torch.randint(TOKENS, (2, 6)))
    outputs = model(data)
    last = outputs.last
    nats = nn.functional.cross_entropy(model.scores(last.flatten(0, 1)), data["targets"].flatten())
    changes = (last[:, 1:] - last[:, :-1]).square().mean()
    torch.testing.assert_close(model.loss(outputs, data), nats + 2 * last.square().mean() + 3 * changes)
    torch.testing.assert_close(model.eval().loss(outputs, data), nats)
    model.train()
    one = batch(torch.randint(TOKENS, (2, 1)))
    assert torch.isfinite(model.loss(model(one), one))


def test_a_tied_model_has_one_matrix() -> None:
    tied, free = make(tie=True, projection_size=3), make()
    assert "output.weight" not in dict(tied.named_parameters())
    assert sum(tensor.shape == (TOKENS, 6) for tensor in tied.parameters()) == 1
    assert tied.get_submodule("recurrent2").hidden_size == 6
    assert tied.get_submodule("recurrent1").proj_size == 3
    assert "output.weight" in dict(free.named_parameters())


@pytest.mark.parametrize("options", [{}, {"adaptive_softmax": [4, 7], "hidden_size": 16}], ids=str)
def test_metric_counts_targets_only(options: dict[str, Any]) -> None:
    metric = LmMetric()
    model = make(**options).eval()
    inputs = torch.randint(TOKENS, (2, 6))
    targets = inputs.clone()
    targets[1, 3:] = IGNORED
    data = batch(inputs, targets=targets)
    with torch.no_grad():
        outputs = model(data)
        scores = model.scores(outputs.last.flatten(0, 1)).view(2, 6, TOKENS)
    metric.update(outputs, data)
    nats = -scores.log_softmax(2).gather(2, inputs[:, :, None])[:, :, 0]
    mean = float(torch.cat([nats[0], nats[1, :3]]).double().mean())
    figures = {name: float(value) for name, value in metric.compute().items()}
    assert figures["nats"] == pytest.approx(mean, rel=1e-5)
    assert figures["perplexity"] == pytest.approx(torch.tensor(mean).exp().item(), rel=1e-5)
    assert figures["bits_per_character"] == pytest.approx(mean * 9 / 12 / 0.6931471805599453, rel=1e-5)
    assert int(model.weight(data)) == 9
    empty = batch(inputs, targets=torch.full_like(inputs, IGNORED))
    assert model.loss(model(empty), empty).item() == 0
