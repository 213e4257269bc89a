"""Cache and dynamic evaluation: what their papers say, and never a look ahead."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from penstock.errors import InputError
from penstock.tasks import lm
from penstock.tasks.lm.adapting import Cached, Dynamic, adapting
from penstock.tasks.lm.config import EvaluateOptions
from penstock.tasks.lm.model import LanguageModel
from penstock.training.job import Batch, TaskModel
from tests.tasks.lm.conftest import Write
from tests.tasks.lm.text import small_config

TOKENS = 11
ADAPTING = [
    {"cache": 6},
    {"cache": 100, "cache_theta": 0.0, "cache_lambda": 0.5},
    {"dynamic": 0.5},
    {"dynamic": 0.5, "dynamic_decay": 0.3, "cache": 6},
]


def make(**options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(small_config(Path("a"), Path("b"), **options), tokens=TOKENS).eval()


def adapted(model: TaskModel, **options: Any) -> TaskModel:
    return adapting(model, EvaluateOptions.model_validate({"data": "text", **options})).eval()


def windows(tokens: Tensor, size: int = 5) -> list[Batch]:
    """A text in one stream."""
    inputs = torch.cat([torch.zeros(1, dtype=torch.int64), tokens[:-1]])
    parts = zip(inputs.split(size), tokens.split(size), strict=True)
    return [
        {"inputs": x[None], "targets": y[None], "begins": torch.tensor([number == 0])}
        for number, (x, y) in enumerate(parts)
    ]


@torch.no_grad()
def nats(model: TaskModel, tokens: Tensor) -> Tensor:
    """Of every token of a text."""
    return torch.cat([model(window).nats[0] for window in windows(tokens)])


def test_nothing_to_adapt_by_leaves_the_model() -> None:
    model = make()
    assert adapted(model) is model


@pytest.mark.parametrize("options", ADAPTING, ids=str)
@pytest.mark.parametrize(
    "output", [{}, {"tie": True}, {"adaptive_softmax": [4, 7], "hidden_size": 16}], ids=str
)
def test_no_token_is_seen_before_it_is_predicted(options: dict[str, Any], output: dict[str, Any]) -> None:
    model = make(**output)
    tokens = torch.randint(2, TOKENS, (34,))
    found = nats(adapted(model, **options), tokens)
    assert not torch.allclose(found, nats(model, tokens)), "it adapts"
    for place in (0, 1, 12, 15, 33):
        other = tokens.clone()
        other[place:] = torch.randint(
            2, TOKENS, (34 - place,), generator=torch.Generator().manual_seed(place)
        )
        assert torch.equal(nats(adapted(model, **options), other)[:place], found[:place])


@pytest.mark.parametrize(("size", "theta", "share"), [(6, 0.7, 0.2), (1, 0.3, 0.9), (100, 0.0, 0.5)])
def test_the_cache_is_that_of_its_paper(size: int, theta: float, share: float) -> None:
    """Against the sums as they are written, token by token, in double precision."""
    model = make()
    tokens = torch.randint(2, 6, (23,))
    with torch.no_grad():
        states = torch.cat([model(window).last[0] for window in windows(tokens)]).double()
    plain = nats(model, tokens).double().exp().reciprocal()
    expected = [float(plain[0])]
    for t in range(1, len(tokens)):
        before = range(max(0, t - size), t)
        likeness = {i: math.exp(theta * float(states[t] @ states[i])) for i in before}
        same = sum(likeness[i] for i in before if tokens[i] == tokens[t])
        expected.append((1 - share) * float(plain[t]) + share * same / sum(likeness.values()))
    found = nats(Cached(model, size, theta, share), tokens).double().exp().reciprocal()
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_probabilities_with_a_cache_sum_to_one() -> None:
    model = make()
    text = torch.randint(2, TOKENS, (12,))
    last = [torch.cat([text, torch.tensor([token])]) for token in range(TOKENS)]
    total = sum(float(nats(Cached(model, 8, 0.5, 0.3), tokens)[-1].neg().exp()) for tokens in last)
    assert total == pytest.approx(1, rel=1e-5)


def test_a_cache_is_emptied_where_a_text_begins() -> None:
    model = Cached(make(), 8, 0.5, 0.3)
    tokens = torch.randint(2, TOKENS, (12,))
    assert torch.equal(nats(model, tokens), nats(model, tokens))


@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_dynamic_evaluation_is_gradient_descent(decay: float) -> None:
    model = make()
    tokens = torch.randint(2, TOKENS, (15,))
    found = nats(Dynamic(model, 0.5, decay).eval(), tokens)
    learner, expected = copy.deepcopy(model), []
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.5)
    for window in windows(tokens):
        optimizer.zero_grad()
        outputs = learner(window)
        expected.append(outputs.nats[0].detach())
        outputs.nats.mean().backward()
        optimizer.step()
        with torch.no_grad():
            for weight, saved in zip(learner.parameters(), model.parameters(), strict=True):
                weight.add_(decay * (saved - weight))
    torch.testing.assert_close(found, torch.cat(expected))


# With a trained model

REPEATED = "Ann saw her sister's tent.\nBob eats the bitter root there.\n" * 25


@pytest.mark.parametrize(
    "options", [{"cache": 500, "cache_theta": 1.0, "cache_lambda": 0.3}, {"dynamic": 0.5}], ids=str
)
def test_repetitions_become_likelier(model: Path, write: Write, options: dict[str, Any]) -> None:
    path = write("text.txt", REPEATED)
    before = {file.name: file.read_bytes() for file in model.iterdir() if file.is_file()}
    plain, changed = (lm.evaluate(model, path, threads=1, **chosen)["metrics"] for chosen in ({}, options))
    assert changed["nats"] < 0.8 * plain["nats"]
    assert changed["perplexity"] == pytest.approx(math.exp(changed["nats"]), rel=1e-4)
    assert {file.name: file.read_bytes() for file in model.iterdir() if file.is_file()} == before


def test_the_loaded_model_stays_as_it_is(model: Path, write: Write) -> None:
    path = write("text.txt", REPEATED)
    predictor = lm.load(model, threads=1)
    weights = copy.deepcopy(predictor.model.state_dict())
    options = EvaluateOptions.model_validate({"data": path, "dynamic": 0.5, "cache": 100})
    first = predictor.evaluate(options)
    assert all(torch.equal(weight, weights[name]) for name, weight in predictor.model.state_dict().items())
    assert predictor.evaluate(options) == first


def test_a_learning_rate_that_is_too_large_is_said(model: Path, write: Write) -> None:
    with pytest.raises(InputError, match=r"--dynamic 1e\+30: the loss became (nan|inf), try a smaller"):
        lm.evaluate(model, write("text.txt", REPEATED), threads=1, dynamic=1e30)


def test_long_texts_are_one_stream(model: Path, write: Write) -> None:
    """Two streams would each begin with an empty cache."""
    text = "Ann saw her boat.\n" * 300
    path = write("text.txt", text)
    found = lm.evaluate(model, path, threads=1, cache=50)["metrics"]["nats"]
    again = lm.evaluate(model, path, threads=1, cache=50, batch_tokens=1)["metrics"]["nats"]
    assert found == again
