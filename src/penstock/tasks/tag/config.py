"""The options of `penstock train|evaluate|predict` for tagging; free of torch."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from penstock.tasks import options
from penstock.training.config import Options, RecurrentOptions, TrainingOptions, positional


class Columns(Options):
    """Columns."""

    token_column: str | int | None = Field(
        None,
        description="column of the tokens: a number from 1, from -1 for the last, or a CoNLL-U name; "
        "form in CoNLL-U and the first column otherwise if not given",
    )
    column: str | int | None = Field(
        None,
        description="column of the labels, likewise; upos in CoNLL-U and the last column otherwise if not "
        "given",
    )


class DataOptions(Columns):
    """Data."""

    data: options.Files = Field(
        min_length=1,
        description="training data, one file or several, one token a line and a blank line after each "
        "sentence: CoNLL-U, or columns separated by tabs or spaces (each also .gz)",
        json_schema_extra=positional("DATA"),
    )
    dev: Path | None = Field(
        None, description="data that decide which epoch is best; a part of DATA if not given"
    )
    test: Path | None = Field(None, description="data that the finished model is measured on")
    dev_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the sentences of DATA held out as dev data, drawn with --seed"
    )
    scheme: Literal["auto", "none", "bio", "iob1", "iobes"] = Field(
        "auto", description="how labels mark spans of tokens; none if every label stands for itself"
    )


class WordOptions(Options):
    """Words."""

    min_frequency: int = Field(1, ge=1, description="times a word must occur to have an embedding of its own")
    lowercase: bool = Field(
        True, description="one embedding for all spellings of a word; characters still show its capitals"
    )
    vectors: Path | None = Field(
        None,
        description="pretrained word vectors, word2vec or GloVe text format; they set the embedding size",
    )
    freeze_vectors: bool = Field(False, description="keep the pretrained vectors as they are")
    embedding_size: int = Field(100, ge=1, description="numbers that stand for a word")
    embedding_dropout: float = Field(0.5, ge=0, le=1, description="share of the numbers of a word dropped")
    word_dropout: float = Field(
        1.0,
        ge=0,
        description="how readily a word becomes unknown in training, so that characters and context must "
        "tell: one that occurs n times does with the probability a / (a + n), this number being a",
    )


class CharacterOptions(Options):
    """Characters."""

    character_embedding_size: int = Field(32, ge=1, description="numbers that stand for a character")
    character_hidden_size: int = Field(
        50,
        ge=0,
        description="units in one direction of the layer that reads a word's characters; 0 does without",
    )
    longest_word: int = Field(
        32, ge=2, description="most characters read of a word; the middle of a longer one is left out"
    )


class TaggerOptions(Options):
    """Labels."""

    crf: bool | None = Field(
        None,
        description="decide the labels of a sentence together, by a conditional random field, instead of one "
        "by one; if not given, where they mark spans",
    )


class Config(
    TrainingOptions,
    RecurrentOptions,
    TaggerOptions,
    CharacterOptions,
    WordOptions,
    options.StartOptions,
    DataOptions,
):
    """Tagging."""


class EvaluateOptions(options.EvaluateOptions, Columns):
    """Evaluation."""


class PredictOptions(options.PredictOptions, Columns):
    """Prediction: sentences as arguments, a tagged or untagged file of columns, or a sentence a line."""

    layout: Literal["auto", "columns", "lines"] = Field(
        "auto",
        description="one token a line, in columns, or one sentence a line; lines in a .txt file and on "
        "standard input, otherwise columns",
    )
    format: Literal["jsonl", "same"] = Field(
        "jsonl",
        description="what to write: tokens, labels and their probabilities as JSON, one sentence a line; or "
        "the same as the input, its label column filled in",
    )
