"""Which token is drawn, and where a text ends."""

import pytest
import torch

from penstock.tasks.lm import codec
from penstock.tasks.lm.config import GenerationOptions
from penstock.tasks.lm.generation import Writer, chance, choose, likely


def draws(logits: list[float], count: int = 400, **options: float) -> list[int]:
    generator = chance(1, 0)
    chosen = GenerationOptions.model_validate(options)
    row = torch.tensor([logits])
    return [choose(row, chosen, [generator])[0] for _ in range(count)]


def test_neither_padding_nor_unknown_is_drawn() -> None:
    assert set(draws([9.0, 9.0, 0.0, 0.0])) == {2, 3}


def test_temperature() -> None:
    logits = [0.0, 0.0, 1.0, 0.0]
    assert set(draws(logits, temperature=0)) == {2}
    share = {heat: draws(logits, temperature=heat).count(2) / 400 for heat in (0.5, 1.0, 4.0)}
    for heat, found in share.items():
        expected = float(torch.tensor([1 / heat, 0.0]).softmax(0)[0])
        assert found == pytest.approx(expected, abs=0.08)
    assert set(draws(logits, temperature=1e-300)) == {2}


def test_top_k_and_top_p() -> None:
    p = torch.tensor([[0.0, 0.0, 0.1, 0.4, 0.2, 0.3]])
    assert (likely(p, 0, 1.0) == p).all()
    assert (likely(p, 2, 1.0) > 0)[0].tolist() == [False, False, False, True, False, True]
    for top_p, kept in ((0.39, 1), (0.41, 2), (0.71, 3), (0.95, 4)):
        assert int((likely(p, 0, top_p) > 0).sum()) == kept
    assert int((likely(p, 2, 0.95) > 0).sum()) == 2
    assert set(draws([0.0, 0.0, 1.0, 2.0, 3.0], top_k=1)) == {4}
    assert set(draws([0.0, 0.0, 1.0, 2.0, 3.0], top_p=0.01)) == {4}


def test_generators_differ_by_seed_and_number() -> None:
    values = [torch.rand(1, generator=chance(*key)).item() for key in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert values[0] == values[3]
    assert len(set(values)) == 3


@pytest.mark.parametrize(
    ("stop", "pieces", "ended"),
    [
        ("ab", ["x", "", "", "aa", "y", ""], True),  # x a a a y a b z
        ("aay", ["x", "", "", "a", "", "", "", ""], True),
        (None, list("xaaayabz"), False),
        ("zz", ["x", "a", "a", "a", "y", "a", "b", ""], False),
    ],
)
def test_text_ends_before_the_stop_text(stop: str | None, pieces: list[str], ended: bool) -> None:
    known = codec.learn("byte", [], 300, 1)
    writer = Writer(known.decoder(), stop)
    written = [writer.push(int(token)) for token in known.encode("xaaayabz")]
    whole = "xaaayabz" if stop is None or stop not in "xaaayabz" else "xaaayabz".partition(stop)[0]
    assert "".join(written) + writer.end() == whole
    assert writer.ended is ended
    if stop == "zz":
        assert written == pieces
