"""The chain against every path written out."""

import itertools

import pytest
import torch
from torch import Tensor

from penstock.tasks.tag.crf import (
    Chain,
    ChainParameters,
    log_partition,
    marginals,
    path_score,
    viterbi,
    zero_chain,
)

SHAPES = [(3, [5, 1, 4, 2]), (2, [1]), (1, [3, 2]), (4, [1, 1]), (5, [4, 4, 3])]


def draw(labels: int, lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Chain]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    emissions = normal(len(lengths), max(lengths), labels)
    for row, length in enumerate(lengths):
        emissions[row, length:] = 1e9  # what lies beyond a length must not matter
    return emissions, torch.tensor(lengths), Chain(normal(labels), normal(labels, labels), normal(labels))


def all_paths(emissions: Tensor, chain: Chain) -> dict[tuple[int, ...], float]:
    """The score of every path over one row (T, K), summed term by term."""
    steps, labels = emissions.shape
    scores = {}
    for path in itertools.product(range(labels), repeat=steps):
        score = chain.start[path[0]] + chain.end[path[-1]]
        score = score + sum(emissions[t, label] for t, label in enumerate(path))
        score = score + sum(chain.transitions[i, j] for i, j in itertools.pairwise(path))
        scores[path] = float(score)
    return scores


@pytest.mark.parametrize(("labels", "lengths"), SHAPES)
def test_equals_enumeration_of_all_paths(labels, lengths):
    emissions, steps, chain = draw(labels, lengths)
    log_z, best = log_partition(emissions, steps, chain), viterbi(emissions, steps, chain)
    probability = marginals(emissions, steps, chain)
    gold = torch.randint(labels, emissions.shape[:2], generator=torch.Generator().manual_seed(1))
    score = path_score(emissions, gold, steps, chain)
    for row, length in enumerate(lengths):
        scores = all_paths(emissions[row, :length], chain)
        values = torch.tensor(list(scores.values()), dtype=torch.float64)
        torch.testing.assert_close(log_z[row], torch.logsumexp(values, 0))
        assert tuple(best[row, :length].tolist()) == max(scores, key=scores.__getitem__)
        assert scores[tuple(gold[row, :length].tolist())] == pytest.approx(float(score[row]))
        for t in range(length):
            for label in range(labels):
                through = values[torch.tensor([path[t] == label for path in scores])]
                expected = torch.exp(torch.logsumexp(through, 0) - log_z[row])
                torch.testing.assert_close(probability[row, t, label], expected)
        assert not probability[row, length:].any()


@pytest.mark.parametrize(("labels", "lengths"), SHAPES)
def test_gradients(labels, lengths):
    emissions, steps, chain = draw(labels, lengths)
    inside = torch.arange(max(lengths)) < steps[:, None]
    emissions = emissions.where(inside[:, :, None], 0)
    gold = torch.randint(labels, emissions.shape[:2], generator=torch.Generator().manual_seed(2))
    inputs = [tensor.requires_grad_() for tensor in (emissions, *chain)]

    def negative_log_likelihood(emissions, *chain):
        chain = Chain(*chain)
        return log_partition(emissions, steps, chain) - path_score(emissions, gold, steps, chain)

    assert torch.autograd.gradcheck(negative_log_likelihood, inputs)


def test_zero_chain_decides_every_step_alone():
    emissions, lengths, _ = draw(4, [6, 3])
    chain = zero_chain(emissions)
    for row, length in enumerate(lengths.tolist()):
        inside = emissions[row, :length]
        torch.testing.assert_close(
            log_partition(emissions, lengths, chain)[row], torch.logsumexp(inside, 1).sum()
        )
        assert viterbi(emissions, lengths, chain)[row, :length].tolist() == inside.argmax(1).tolist()
        torch.testing.assert_close(marginals(emissions, lengths, chain)[row, :length], inside.softmax(1))


def test_parameters_start_at_zero_and_learn():
    chain = ChainParameters(3)
    assert all(not scores.any() for scores in chain())
    emissions, lengths, _ = draw(3, [4])
    log_partition(emissions.float(), lengths, chain()).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in chain.parameters())


def test_restricted_chain_takes_the_best_allowed_path():
    emissions, lengths, chain = draw(3, [5, 2, 1])
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[0, 1] = allowed[3, 2] = allowed[1, 3] = False  # 1 after 0, 2 first, 1 last
    best = viterbi(emissions, lengths, chain.restricted_to(allowed))
    for row, length in enumerate(lengths.tolist()):
        paths = all_paths(emissions[row, :length], chain)
        valid = {
            path: score
            for path, score in paths.items()
            if path[0] != 2 and path[-1] != 1 and (0, 1) not in itertools.pairwise(path)
        }
        assert tuple(best[row, :length].tolist()) == max(valid, key=valid.__getitem__)


def test_no_valid_path_still_decodes():
    emissions, lengths, chain = draw(2, [3])
    best = viterbi(emissions, lengths, chain.restricted_to(torch.zeros(3, 3, dtype=torch.bool)))
    assert tuple(best[0].tolist()) == tuple(viterbi(emissions, lengths, chain)[0].tolist())
