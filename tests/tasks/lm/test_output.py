"""The two outputs: the same likelihoods, and gradients for every matrix."""

import pytest
import torch

from penstock.tasks.lm.data import IGNORED
from penstock.tasks.lm.output import AdaptiveOutput, FullOutput, Output

SIZE, TOKENS = 64, 30


@pytest.fixture(params=["full", "tied", "adaptive"])
def output(request: pytest.FixtureRequest) -> Output:
    torch.manual_seed(0)
    if request.param == "adaptive":
        return AdaptiveOutput(SIZE, TOKENS, [5, 12, 20])
    return FullOutput(SIZE, TOKENS, tied=request.param == "tied")


def test_nats_are_those_of_the_scores(output: Output) -> None:
    embedding, x = torch.randn(TOKENS, SIZE), torch.randn(3, 40, SIZE)
    targets = torch.randint(TOKENS, (3, 40))
    targets[1, 5:9] = IGNORED
    nats = output(x, targets, embedding)
    all_nats = -output.scores(x.flatten(0, 1), embedding).log_softmax(1).view(3, 40, TOKENS)
    expected = all_nats.gather(2, targets.clamp(min=0)[:, :, None])[:, :, 0].masked_fill(targets < 0, 0)
    torch.testing.assert_close(nats, expected)
    assert output(x[:, :0], targets[:, :0], embedding).shape == (3, 0)
    nothing = torch.full_like(targets, IGNORED)
    assert (output(x, nothing, embedding) == 0).all()


def test_every_matrix_has_a_gradient_also_of_tokens_that_do_not_occur() -> None:
    """Processes that train together wait for the gradients of all weights."""
    output = AdaptiveOutput(SIZE, TOKENS, [5, 12, 20])
    output(torch.randn(1, 4, SIZE), torch.tensor([[1, 2, 3, 13]]), torch.zeros(0)).sum().backward()
    gradients = {name: weight.grad for name, weight in output.named_parameters() if weight.grad is not None}
    assert len(gradients) == len(list(output.parameters()))
    assert {name for name, gradient in gradients.items() if gradient.any()} == {
        "softmax.head.weight",
        "softmax.tail.1.0.weight",
        "softmax.tail.1.1.weight",
    }
