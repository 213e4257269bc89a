"""The options of `penstock train|evaluate|predict` for classification; free of torch."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from penstock.tasks import options
from penstock.training.config import Options, RecurrentOptions, TrainingOptions, positional


class DataOptions(Options):
    """Data."""

    data: Path = Field(
        description="training data: a table of texts (csv, tsv, jsonl, parquet, each also .gz), or series of "
        "numbers in a .ts file or in a table with one row a step",
        json_schema_extra=positional("DATA"),
    )
    label: str = Field("label", description="column with the label")
    dev: Path | None = Field(
        None, description="data that decide which epoch is best; a part of DATA if not given"
    )
    test: Path | None = Field(None, description="data that the finished model is measured on")
    dev_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of DATA held out as dev data, drawn with --seed, label by label"
    )


class TextOptions(Options):
    """Texts."""

    text: str | None = Field(None, description="column with the text")
    tokenizer: Literal["word", "bpe", "char", "byte"] = Field(
        "word", description="what a token is; 'word' also takes apart Chinese, Japanese and Thai"
    )
    vocabulary: int = Field(30_000, ge=3, description="most different tokens; rarer ones are unknown")
    min_frequency: int = Field(2, ge=1, description="times a token must occur to be known")
    lowercase: bool = Field(True, description="make no difference between upper and lower case")
    max_length: int = Field(400, ge=1, description="longest text in tokens; the rest is cut off")
    keep: Literal["head", "tail", "both"] = Field("both", description="part of a longer text that is kept")
    vectors: Path | None = Field(
        None,
        description="pretrained word vectors, word2vec or GloVe text format; they set the embedding size",
    )
    freeze_vectors: bool = Field(False, description="keep the pretrained vectors as they are")
    embedding_size: int = Field(128, ge=1, description="numbers that stand for a token")
    embedding_dropout: float = Field(0.0, ge=0, le=1, description="share of embedding numbers dropped")
    word_dropout: float = Field(0.0, ge=0, le=1, description="share of tokens made unknown in training")


class SeriesOptions(Options):
    """Series of numbers."""

    id: str | None = Field(None, description="column that tells the series of a table apart")
    time: str | None = Field(
        None, description="column to order the steps by; 'time' if there is one, else as they come"
    )
    values: list[str] = Field([], description="columns with the numbers; all numeric ones if not given")
    noise: float = Field(
        0.0, ge=0, description="standard deviation of noise added in training to the standardised numbers"
    )


class ModelOptions(Options):
    """Classifier."""

    pooling: Literal["last", "mean", "max", "mean+max", "last+mean+max", "attention"] = Field(
        "mean+max",
        description="how the outputs of all steps become one vector; 'last' takes the final states",
    )
    gradient_steps: int = Field(
        0,
        ge=0,
        description="steps that the gradient goes back from the end of a batch of long sequences, which are "
        "read in full; needs one direction, and 0 stands for all steps",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread evenly over all labels"
    )


class Config(
    TrainingOptions,
    RecurrentOptions,
    ModelOptions,
    SeriesOptions,
    TextOptions,
    options.StartOptions,
    DataOptions,
):
    """Classification."""

    @model_validator(mode="after")
    def _gradient_has_a_way_back(self):
        """Raise ValueError for a gradient that is cut off where a direction begins."""
        if self.gradient_steps and self.bidirectional:
            raise ValueError(f"gradient_steps={self.gradient_steps} needs bidirectional=False")
        return self


class Columns(Options):
    """Columns, where the file names them otherwise than the training data."""

    text: str | None = Field(None, description="column with the text")
    id: str | None = Field(None, description="column that tells the series apart")
    time: str | None = Field(None, description="column to order the steps of a series by")


class EvaluateOptions(options.EvaluateOptions, Columns):
    """Evaluation."""

    label: str | None = Field(None, description="column with the label")


class PredictOptions(options.PredictOptions, Columns):
    """Prediction: texts as arguments, a table, a file with one text a line, or a file of series."""
