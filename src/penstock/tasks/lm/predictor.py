"""A saved language model at work: texts that go on, and how likely a text is."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, tee
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from penstock.data.lines import read_lines
from penstock.data.vocabulary import PAD_ID
from penstock.errors import InputError
from penstock.tasks.lm import codec, corpus, data
from penstock.tasks.lm.adapting import adapting
from penstock.tasks.lm.config import Config, EvaluateOptions, GenerationOptions, PredictOptions
from penstock.tasks.lm.corpus import Text
from penstock.tasks.lm.data import StreamSampler, TextData
from penstock.tasks.lm.generation import Writer, chance, choose
from penstock.tasks.lm.metrics import LmMetric
from penstock.tasks.lm.model import LanguageModel, States, joined
from penstock.tasks.streams import Part, chunks, stdin_lines
from penstock.training.device import choose_device, use_threads
from penstock.training.measure import measure
from penstock.training.saved import SavedModel, read_model


class Predictor:
    """A trained language model.

    Args:
        folder: of the saved model.
        device: "auto", "cpu", "cuda" or "mps".
        threads: CPU threads; None for all that torch may use.
        batch_tokens: steps in a batch when a text is measured; a window of them for each text that is made
            together with others.

    Raises:
        InputError: whatever is wrong with the folder.
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", threads: int | None = None, batch_tokens: int = 8192
    ) -> None:
        saved = read_model(folder, task="lm")
        self.config = saved.parse_config(Config)
        self.device = choose_device(device)
        self.threads = threads
        self.batch_tokens = batch_tokens
        self._codec = _codec(saved, self.config)
        self.model = saved.build(LanguageModel, self.config)

    def predict(self, prompts: Sequence[str], **options: Any) -> list[dict[str, str]]:
        """Go on from several beginnings, together.

        Args:
            prompts: the beginnings; "" for a text from its start.
            options: as the fields of `penstock.tasks.lm.config.GenerationOptions`: length (tokens, 200),
                temperature (1.0; 0 always takes the likeliest token), top_k (0: all), top_p (1.0), seed
                (1) and stop (None).

        Returns:
            for each, in order: "prompt", and the "text" that follows it.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts: expected a list of texts, got one text; put it in a list")
        return list(self._answers(chunks(prompts, self._rows), GenerationOptions(**options)))

    def generate(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """What follows a beginning, in pieces as they are made; options as for `predict`."""
        return self._generate(prompt, GenerationOptions(**options))

    def score(self, text: str) -> list[tuple[str, float]]:
        """The tokens of a text, each with its log probability (nats) after all before it."""
        return list(self._scores(_pieces(text)))

    def stream(self, options: PredictOptions) -> Iterator[str]:
        """What `penstock predict` writes: a text as it is made, or JSON objects, one a line."""
        if options.score:
            for token, value in self._scores(self._text(options.score, options.text)):
                yield _json({"token": token, "log_probability": round(value, 6)})
        elif options.prompt is not None:
            yield Part(options.prompt)
            yield from map(Part, self._generate(options.prompt, options))
            yield ""
        else:
            yield from map(_json, self._answers(_prompts(options, self._rows), options))

    def evaluate(self, options: EvaluateOptions) -> dict[str, Any]:
        """Measure on a text; see `penstock.tasks.lm.evaluate`."""
        with TemporaryDirectory(prefix="penstock-") as name, use_threads(self.threads):
            folder = Path(name)
            source = self._text(options.data, options.text)
            size = corpus.encode(folder, "data", self._codec, source)
            if not size.tokens:
                raise InputError(f"{source}: expected text, got none")
            data.write_sizes(folder, {"data": size})
            model = adapting(self.model.to(self.device), options)
            loader = self._loader(TextData(folder, "data"), options)
            figures = measure(model, LmMetric(), loader, self.device)
        return {"metrics": {name: float(value) for name, value in figures.items()}}

    def _loader(self, text: TextData, options: EvaluateOptions) -> DataLoader:
        """The windows of a text to measure on: of several streams; of one that the model adapts to."""
        window = options.dynamic_steps if options.dynamic else self.config.window
        one = options.dynamic or options.cache
        rows = 1 if one else data.measuring_rows(len(text), window, self.batch_tokens)
        return DataLoader(
            text,  # pyright: ignore[reportArgumentType]  (any object with length and items will do)
            batch_sampler=StreamSampler(len(text), rows, window, shuffle=False),  # pyright: ignore[reportArgumentType]
            collate_fn=data.collate,
        )

    def _text(self, path: Path, column: str | None) -> Text:
        """The text of files; of tables by the column that is named, or that the model was trained on."""
        text = Text([path], column or self.config.text)
        if column:
            text.check_column()
        return text

    @property
    def _rows(self) -> int:
        """Texts made together."""
        return max(1, self.batch_tokens // self.config.window)

    def _answers(self, batches: Iterable[list[str]], options: GenerationOptions) -> Iterator[dict[str, str]]:
        first = 0
        for prompts in batches:
            texts = self._texts(prompts, options, first)
            first += len(prompts)
            for prompt, text in zip(prompts, texts, strict=True):
                yield {"prompt": prompt, "text": text}

    def _texts(self, prompts: list[str], options: GenerationOptions, first: int) -> list[str]:
        """What follows each of some beginnings, which are numbered from `first` on."""
        writers = [self._writer(prompt, options) for prompt in prompts]
        texts = [""] * len(prompts)
        for tokens in self._draw(prompts, options, first):
            texts = [
                text + writer.push(token) for text, writer, token in zip(texts, writers, tokens, strict=True)
            ]
            if all(writer.ended for writer in writers):
                break
        return [text + writer.end() for text, writer in zip(texts, writers, strict=True)]

    def _generate(self, prompt: str, options: GenerationOptions) -> Iterator[str]:
        writer = self._writer(prompt, options)
        for (token,) in self._draw([prompt], options, 0):
            if text := writer.push(token):
                yield text
            if writer.ended:
                return
        if text := writer.end():
            yield text

    def _writer(self, prompt: str, options: GenerationOptions) -> Writer:
        return Writer(self._codec.decoder(after=prompt), options.stop)

    @torch.no_grad()
    def _draw(self, prompts: list[str], options: GenerationOptions, first: int) -> Iterator[list[int]]:
        """The next token of each text, again and again: one step of the model for each."""
        with use_threads(self.threads):
            self.model.to(self.device).eval()
            chances = [chance(options.seed, first + number) for number in range(len(prompts))]
            ends = [self._end_of(prompt) for prompt in prompts]
            last, states = torch.cat([end[0] for end in ends]), joined([end[1] for end in ends])
            for _ in range(options.length):
                tokens = choose(self.model.scores(last[:, -1]), options, chances)
                yield tokens
                last, states = self.model.run(torch.tensor(tokens, device=self.device)[:, None], states)

    def _end_of(self, prompt: str) -> tuple[Tensor, States]:
        """The output (1, 1, R) of the last layer at the end of a beginning, and the states there."""
        *_, (last, states) = self._run(self._tokens(_pieces(prompt)))
        return last[:, -1:], states

    @torch.no_grad()
    def _scores(self, pieces: Iterable[str]) -> Iterator[tuple[str, float]]:
        """The tokens of a text in pieces and their log probabilities, window by window."""
        with use_threads(self.threads):
            self.model.to(self.device).eval()
            before, tokens = tee(self._tokens(pieces))
            for last, _ in self._run(before):
                window = list(islice(tokens, last.shape[1]))
                targets = torch.tensor([window], dtype=torch.int64, device=self.device)
                nats = self.model.nats(last[:, : len(window)], targets)[0]
                yield from zip(map(self._codec.name, window), (-nats).tolist(), strict=True)

    def _run(self, tokens: Iterable[int]) -> Iterator[tuple[Tensor, States]]:
        """Outputs (1, T, R) of the last layer before the first token and after each, and the states then."""
        states = self.model.beginning()
        for window in chunks(chain([PAD_ID], tokens), self.config.window):
            last, states = self.model.run(torch.tensor([window], device=self.device), states)
            yield last, states

    def _tokens(self, pieces: Iterable[str]) -> Iterator[int]:
        """The tokens of a text in pieces, as they are asked for."""
        return chain.from_iterable(ids.tolist() for ids in self._codec.encode_stream(pieces))


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces as a file is read."""
    return io.StringIO(text, newline="\n")


def _json(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)


def _prompts(options: PredictOptions, rows: int) -> Iterator[list[str]]:
    """The beginnings: arguments, a file, or standard input as it comes; at most `rows` at a time."""
    if options.inputs:
        return chunks(options.inputs, rows)
    if options.input:
        return chunks((line for _, line in read_lines(options.input)), rows)
    return (chunk for lines in stdin_lines() for chunk in chunks((line for _, line in lines), rows))


def _codec(saved: SavedModel, config: Config) -> codec.Codec:
    """The codec of a saved model, of the same size as the model."""
    found = codec.load(config.level, saved.assets, saved.folder)
    expected = saved.architecture.get("tokens")
    if len(found) != expected:
        raise InputError(
            f"{saved.folder}: expected a vocabulary of the {expected} tokens of the model, got {len(found)}"
        )
    return found
