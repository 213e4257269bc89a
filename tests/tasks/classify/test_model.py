"""The classifier's layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from penstock.tasks.classify.model import Classifier, Pooling, SeriesInput, TokenInput
from tests.tasks.classify.files import small_config


@pytest.mark.parametrize("kind", ["last", "mean", "max", "mean+max", "last+mean+max", "attention"])
def test_pooling_sees_no_padding(kind: str) -> None:
    torch.manual_seed(0)
    pooling = Pooling(kind, 4)
    outputs, last = torch.randn(3, 5, 4) - 3, torch.randn(3, 4)
    lengths = torch.tensor([5, 2, 1])
    for row, length in enumerate(lengths):
        outputs[row, length:] = 0
    together = pooling(outputs, last, lengths)
    assert together.shape == (3, pooling.output_size)
    for row, length in enumerate(lengths):
        alone = pooling(outputs[row : row + 1, :length], last[row : row + 1], lengths[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_pooling_is_what_its_name_says() -> None:
    outputs = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [0.0, 0.0]]])
    lengths, last = torch.tensor([2]), torch.tensor([[7.0, 8.0]])
    assert Pooling("last", 2)(outputs, last, lengths).tolist() == [[7, 8]]
    assert Pooling("mean", 2)(outputs, last, lengths).tolist() == [[2, -3]]
    assert Pooling("max", 2)(outputs, last, lengths).tolist() == [[3, -2]]
    assert Pooling("mean+max", 2)(outputs, last, lengths).tolist() == [[2, -3, 3, -2]]
    assert Pooling("last+mean+max", 2)(outputs, last, lengths).tolist() == [[7, 8, 2, -3, 3, -2]]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_last_takes_the_states_at_the_length(layers: int, bidirectional: bool) -> None:
    options = {"layers": layers, "bidirectional": bidirectional, "pooling": "last", "dropout": 0.0}
    model = Classifier(small_config(Path("x.csv"), Path("m"), **options), "series", 2, 0, 3).eval()
    series = torch.randn(2, 6, 2)
    series[1, 4:] = 0
    logits = model({"inputs": series, "lengths": torch.tensor([6, 4])})
    alone = model({"inputs": series[1:, :4], "lengths": torch.tensor([4])})
    torch.testing.assert_close(logits[1:], alone)
    outputs, _ = model.recurrent(series, lengths=torch.tensor([6, 4]))
    pooled = torch.cat([outputs[1, 3, :12], outputs[1, 0, 12:]])
    torch.testing.assert_close(model.output(pooled), logits[1])


def short_gradient(gradient_steps: int, **options: Any) -> Classifier:
    torch.manual_seed(0)
    plain = {"bidirectional": False, "dropout": 0.0, "pooling": "last+mean+max"}
    config = small_config(Path("x.csv"), Path("m"), gradient_steps=gradient_steps, **plain, **options)
    return Classifier(config, "series", 2, 0, 3).train()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_short_gradient_changes_no_output(cell: str) -> None:
    batch = {"inputs": torch.randn(3, 9, 2), "lengths": torch.tensor([9, 6, 2])}
    whole, short = (short_gradient(steps, cell=cell, layers=2)(batch) for steps in (0, 4))
    torch.testing.assert_close(short, whole)


def test_a_short_gradient_ends_where_it_should() -> None:
    series = torch.randn(3, 9, 2, requires_grad=True)
    short_gradient(4)({"inputs": series, "lengths": torch.tensor([9, 6, 2])}).sum().backward()
    assert series.grad is not None
    reached = (series.grad != 0).any(2)
    assert reached.tolist() == [[False] * 5 + [True] * 4, [False] * 5 + [True] + [False] * 3, [False] * 9]


def test_a_short_gradient_needs_one_direction() -> None:
    with pytest.raises(ValueError, match="gradient_steps=4 needs bidirectional=False"):
        small_config(Path("x.csv"), Path("m"), gradient_steps=4)


def test_word_dropout_forgets_words_but_no_padding() -> None:
    torch.manual_seed(0)
    layer = TokenInput(9, 4, dropout=0.0, word_dropout=0.5)
    ids = torch.full((50, 20), 5)
    ids[:, 15:] = 0
    forgotten = (layer(ids)[:, :15] == layer.embedding.weight[1]).all(2).float().mean()
    assert 0.4 < forgotten < 0.6
    assert (layer(ids)[:, 15:] == 0).all()
    assert (layer.eval()(ids)[:, :15] == layer.embedding.weight[5]).all()


def test_noise_is_for_training_alone() -> None:
    torch.manual_seed(0)
    layer, series = SeriesInput(2, noise=0.5), torch.zeros(40, 30, 2)
    assert layer(series).std() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(layer.eval()(series), series)


def test_label_smoothing_is_for_training_alone() -> None:
    options: dict[str, Any] = {"label_smoothing": 0.4}
    model = Classifier(small_config(Path("x.csv"), Path("m"), **options), "text", 9, 4, 2)
    logits, batch = torch.tensor([[5.0, -5.0]]), {"labels": torch.tensor([0])}
    assert model.train().loss(logits, batch) > 1
    assert model.eval().loss(logits, batch) < 0.01


def test_the_recurrence_starts_well() -> None:
    model = Classifier(small_config(Path("x.csv"), Path("m")), "text", 9, 4, 2)
    for name, weight in model.recurrent.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.detach().split(12):
                torch.testing.assert_close(gate @ gate.T, torch.eye(12), atol=1e-5, rtol=0)
    biases = dict(model.recurrent.named_parameters())
    total = (biases["bias_ih_l0"] + biases["bias_hh_l0"]).detach()
    assert total.tolist() == [0.0] * 12 + [1.0] * 12 + [0.0] * 24
