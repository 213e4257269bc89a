"""The options of `penstock train|evaluate|predict` for language models; free of torch."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from penstock.tasks import options
from penstock.training.config import Options, RecurrentOptions, TrainingOptions, positional


class DataOptions(Options):
    """Data."""

    data: options.Files = Field(
        min_length=1,
        description="text to learn from, in UTF-8: files (also .gz), folders of them, or patterns such as "
        "'books/*.txt', read one after the other; with --text also tables (csv, tsv, jsonl, parquet)",
        json_schema_extra=positional("DATA"),
    )
    text: str | None = Field(
        None, description="column with the text, of tables; each of its texts ends with an end of line"
    )
    dev: Path | None = Field(
        None, description="text that decides which epoch is best; the end of DATA if not given"
    )
    test: Path | None = Field(None, description="text that the finished model is measured on")
    dev_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the characters of DATA, at its end, that is dev text"
    )
    test_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the characters of DATA, behind the dev text, that is test text"
    )
    level: Literal["char", "byte", "word", "bpe"] = Field(
        "char",
        description="what a token is: a character, a byte of UTF-8, a word between white space (an end of "
        "line is a word too), or a piece by byte-pair encoding",
    )
    vocabulary_size: int = Field(
        10_000,
        ge=3,
        description="most different tokens, the most frequent ones; bytes are always 256, and bpe needs 258",
    )
    min_frequency: int = Field(
        1,
        ge=1,
        description="times a character, a word or a pair of pieces must occur to be a token of its own",
    )

    @model_validator(mode="after")
    def _parts_fit(self):
        """Raise ValueError for test text that is given twice, and if there is nothing left to learn from."""
        if self.test and self.test_fraction:
            raise ValueError(
                f"test_fraction={self.test_fraction}: give either test={self.test} or this, not both"
            )
        if not self.dev and self.dev_fraction + self.test_fraction >= 1:
            raise ValueError(
                "dev_fraction and test_fraction: expected less than 1 together, "
                f"got {self.dev_fraction} and {self.test_fraction}"
            )
        return self


class ModelOptions(Options):
    """Language model."""

    window: int = Field(
        128,
        ge=1,
        description="steps that the gradient goes back; the state is carried further, from window to window",
    )
    embedding_size: int = Field(128, ge=1, description="numbers that stand for a token")
    tie: bool = Field(
        False,
        description="let the embedding be the output matrix too; the last layer then has as many units as it "
        "has numbers, and does not project",
    )
    adaptive_softmax: list[int] = Field(
        [],
        description="ids at which clusters of rarer tokens begin, as 2000,10000: their scores take less "
        "memory and time (Grave et al. 2017); all tokens in one matrix if not given",
    )
    input_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the numbers of the embedding dropped, the same ones at every step",
    )
    embedding_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the tokens whose whole embedding is dropped, wherever they occur",
    )
    weight_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the recurrent weights dropped, the same ones at every step"
    )
    activation_penalty: float = Field(
        0.0, ge=0, description="how much large outputs of the last layer cost (alpha of Merity et al. 2018)"
    )
    change_penalty: float = Field(
        0.0, ge=0, description="how much it costs that they change from step to step (beta, likewise)"
    )


class Config(TrainingOptions, RecurrentOptions, ModelOptions, DataOptions):
    """Language modelling."""

    bidirectional: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of activations dropped between and after the recurrent layers, the same ones at "
        "every step",
    )
    batch_rows: int = Field(
        64, ge=1, description="streams that DATA is cut into; a batch is the next window of each of them"
    )
    batch_tokens: int = Field(8192, ge=1, description="most steps in a batch: fewer streams if need be")

    @model_validator(mode="after")
    def _clusters_fit(self):
        """Raise ValueError for cut-offs that are none, or that the rest of the model has no place for."""
        cutoffs = self.adaptive_softmax
        if not cutoffs:
            return self
        if cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 3:
            raise ValueError(
                f"adaptive_softmax: expected increasing whole numbers from 3 on, got {_listed(cutoffs)}"
            )
        if self.tie:
            raise ValueError("adaptive_softmax: its matrices cannot be that of the embedding; leave out tie")
        if self.level == "byte":
            raise ValueError(
                "adaptive_softmax: bytes are few and not in order of frequency; choose another level"
            )
        size, least = self.projection_size or self.hidden_size, 4 ** len(cutoffs)
        if size < least:
            raise ValueError(
                f"adaptive_softmax: {len(cutoffs)} cut-offs need a last layer of {least} numbers or more, "
                f"got {size}"
            )
        return self


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


_COLUMN = Field(
    None, description="column with the text, where a table names it otherwise than the training data"
)


class EvaluateOptions(options.EvaluateOptions):
    """Evaluation."""

    data: Path = Field(
        description="text to measure on: a file (also .gz), a folder, a pattern or a table",
        json_schema_extra=positional("DATA"),
    )
    text: str | None = _COLUMN
    batch_tokens: int = Field(8192, ge=1, description="steps in a batch, padding included")
    cache: int = Field(
        0,
        ge=0,
        description="predict from the last N steps too: what came after states like the present one "
        "(neural cache, Grave et al. 2017); 0 for no cache",
    )
    cache_theta: float = Field(
        0.3,
        ge=0,
        description="how much the states of the cache most like the present one count before others",
    )
    cache_lambda: float = Field(0.1, gt=0, lt=1, description="share of the cache in the prediction")
    dynamic: float = Field(
        0.0,
        ge=0,
        description="learning rate of dynamic evaluation (Krause et al. 2018): the model learns from what it "
        "has predicted; the saved one stays as it is; 0 does not learn",
    )
    dynamic_steps: int = Field(20, ge=1, description="tokens that are predicted before they are learnt from")
    dynamic_decay: float = Field(
        0.0, ge=0, le=1, description="share of the way back to the saved weights that each such step goes"
    )


class GenerationOptions(Options):
    """Generation."""

    length: int = Field(200, ge=0, description="most tokens to write")
    temperature: float = Field(
        1.0, ge=0, description="below 1 the likely becomes likelier; 0 always takes the likeliest token"
    )
    top_k: int = Field(0, ge=0, description="draw from so many of the likeliest tokens only; 0 for all")
    top_p: float = Field(
        1.0, gt=0, le=1, description="draw from the fewest tokens only that together are so likely"
    )
    seed: int = Field(1, ge=0, lt=2**31, description="another seed draws another text")
    stop: str | None = Field(None, min_length=1, description="end before this text")


class PredictOptions(options.PredictOptions, GenerationOptions):
    """Prediction: one text as it is made, or one JSON object a line for several beginnings."""

    inputs: list[str] = Field(
        [],
        description="beginnings to go on from, together; writes JSON, one a line",
        json_schema_extra=positional("INPUT"),
    )
    input: Path | None = Field(
        None, description="file of beginnings, one a line, likewise; standard input if nothing is given"
    )
    prompt: str | None = Field(
        None, description="beginning of a text; writes it and what follows, as it is made"
    )
    score: Path | None = Field(
        None,
        description="text to score: writes every token and its log probability (nats), as JSON, one a line",
    )

    text: str | None = _COLUMN

    @model_validator(mode="after")
    def _one_source(self):
        """Raise ValueError if there is more than one thing to do."""
        given = {"INPUT": self.inputs, "--input": self.input, "--prompt": self.prompt, "--score": self.score}
        names = [name for name, value in given.items() if value not in (None, [])]
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)}: give only one of them")
        return self
