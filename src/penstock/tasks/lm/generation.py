"""From scores to a token, and from tokens to text that ends where it should.

Dimensions: B texts, V tokens.
"""

import numpy as np
import torch
from torch import Tensor

from penstock.data.vocabulary import PAD_ID, UNKNOWN_ID
from penstock.tasks.lm.codec import Decoder
from penstock.tasks.lm.config import GenerationOptions


def chance(seed: int, number: int) -> torch.Generator:
    """The generator that the text of this number draws from."""
    state = int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def choose(logits: Tensor, options: GenerationOptions, chances: list[torch.Generator]) -> list[int]:
    """The next token of each text: never `<pad>` or `<unk>`.

    Args:
        logits: (B, V).
        options: temperature, top_k and top_p.
        chances: B generators.
    """
    scores = logits.detach().cpu().double()
    scores[:, [PAD_ID, UNKNOWN_ID]] = -torch.inf
    if not options.temperature:
        return scores.argmax(dim=1).tolist()
    scores = (scores - scores.amax(dim=1, keepdim=True)) / options.temperature
    probabilities = likely(scores.softmax(dim=1), options.top_k, options.top_p)
    rows = zip(probabilities, chances, strict=True)
    return [int(torch.multinomial(row, 1, generator=generator)) for row, generator in rows]


def likely(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Probabilities (B, V) with the unlikely tokens at zero; they no longer sum to one.

    Args:
        probabilities: (B, V).
        top_k: tokens to keep; 0 for all.
        top_p: keep the fewest tokens that have this probability together (Holtzman et al. 2020).
    """
    values, places = probabilities.sort(dim=1, descending=True, stable=True)
    kept = values.cumsum(dim=1) - values < top_p
    if top_k:
        kept[:, top_k:] = False
    return torch.zeros_like(values).scatter(1, places, values * kept)


class Writer:
    """Text from tokens, up to a stop text: what may yet become part of it is held back.

    Args:
        decoder: tokens to text.
        stop: the text to end before; None to go on.

    Attributes:
        ended: whether the stop text has come.
    """

    def __init__(self, decoder: Decoder, stop: str | None) -> None:
        self.ended = False
        self._decoder = decoder
        self._stop = stop
        self._held = ""

    def push(self, token: int) -> str:
        """The text that is certain with this token."""
        return self._certain(self._decoder.push(token))

    def end(self) -> str:
        """The text that was held back, when no token follows."""
        text = self._certain(self._decoder.end()) + self._held
        self._held = ""
        return text

    def _certain(self, text: str) -> str:
        if not self._stop or self.ended:
            return "" if self.ended else text
        text = self._held + text
        place = text.find(self._stop)
        self.ended = place >= 0
        if not self.ended:
            place = len(text) - _overlap(text, self._stop)
        self._held = "" if self.ended else text[place:]
        return text[:place]


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` that are the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
