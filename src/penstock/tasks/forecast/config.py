"""The options of `penstock train|evaluate|predict` for forecasting; free of torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from penstock.tasks import options
from penstock.training.config import RUN_ONLY, Options, RecurrentOptions, TrainingOptions, positional
from penstock.training.saved import read_model

Names = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""Several columns; in Python and YAML one alone needs no list."""

_POINT = ("mse", "mae")
_DRAWN = ("gaussian", "student-t", "negative-binomial")
Loss = Literal["quantile", "mse", "mae", "gaussian", "student-t", "negative-binomial"]


class ColumnOptions(Options):
    """Columns."""

    id_column: str | None = Field(
        None, description="column that tells the series of a long table apart; without it every column is one"
    )
    time_column: str | None = Field(
        None,
        description="column with the time stamps; if not given, one called time, date, datetime, timestamp "
        "or ds, or dates in the first column, and else rows are counted",
    )
    target: Names = Field(
        [],
        description="columns to forecast; if not given, all that are nothing else (in a long table: the one)",
    )
    past_columns: Names = Field([], description="covariates that are known up to now")
    known_columns: Names = Field(
        [],
        description="covariates that are known in advance; rows with an empty target, behind the last value, "
        "tell them for the coming steps",
    )
    static_columns: Names = Field([], description="covariates of a long table with one value a series")
    categorical_columns: Names = Field(
        [], description="those of the covariates whose numbers are categories; text always is"
    )
    header: bool | None = Field(
        None, description="whether the first row names the columns; a row of numbers is data if not given"
    )
    regularize: bool = Field(
        False,
        description="put values on a regular grid of time: steps left out are missing, repeated ones are "
        "averaged",
    )


class DataOptions(ColumnOptions):
    """Data."""

    data: Path = Field(
        description="series over time: a wide table (a time column and a column a series) or a long one (see "
        "--id-column); csv, tsv, txt, jsonl or parquet, each also .gz",
        json_schema_extra=positional("DATA"),
    )
    train_steps: int | None = Field(
        None, ge=1, description="first steps of a series, to learn from; all before dev and test if not given"
    )
    dev_steps: int | None = Field(
        None, ge=1, description="steps after those to learn from, which decide which epoch is best"
    )
    test_steps: int | None = Field(
        None, ge=1, description="steps after those, which the finished model is measured on"
    )
    dev_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of dev steps, if --dev-steps is not given"
    )
    test_fraction: float = Field(
        0.2, ge=0, lt=1, description="share of test steps, if --test-steps is not given"
    )


class ModelOptions(Options):
    """Forecast."""

    horizon: int = Field(24, ge=1, description="coming steps to forecast")
    window: int = Field(96, ge=1, description="past steps that the model sees")
    gap: int = Field(
        0, ge=0, description="steps left out between the window and the first step of the forecast"
    )
    segment: int = Field(
        1,
        ge=1,
        description="steps that the recurrence takes at once; above 1 the horizon, too, is decoded so",
    )
    instance_norm: Literal["mean", "last", "off"] | None = Field(
        None,
        description="shift each window by its mean and scale it by its standard deviation, or shift it by "
        "its last value, and the forecast back; mean if not given, but counts are divided by the window's "
        "1 + mean",
    )
    loss: Loss = Field(
        "quantile",
        description="what to learn: quantiles themselves, a single value by its squared (mse) or absolute "
        "error (mae), or a distribution by its likelihood; negative-binomial is for counts",
    )
    quantiles: list[float] = Field(
        [0.1, 0.5, 0.9], description="quantiles to forecast, rising, 0.5 among them: it is the point forecast"
    )
    decoder: Literal["direct", "autoregressive"] = Field(
        "direct",
        description="forecast all steps at once, or draw one after the other from a distribution (--loss "
        "gaussian, student-t or negative-binomial), each the input of the next",
    )
    samples: int = Field(100, ge=2, description="paths that --decoder autoregressive draws for a forecast")
    calibrate: bool = Field(
        False, description="make intervals as wide as the dev data say, once the model is trained"
    )
    calendar: bool = Field(
        False,
        description="show the model hour of day, day of week and month, as far as steps tell",
    )
    series_embedding: bool = Field(False, description="learn a vector for every series of the training data")
    season: int | None = Field(
        None,
        ge=1,
        description="steps of a season, for the seasonal baseline; from the time stamps if not given",
    )
    stride: int = Field(1, ge=1, description="steps from one window of the training data to the next")
    classical: int = Field(
        20,
        ge=0,
        description="at so many origins of the test data also fit exponential smoothing, and show it beside "
        "the model there; 0 does not",
    )

    @model_validator(mode="after")
    def _sizes_fit(self):
        """Raise ValueError for quantiles that are none, or a window that segments do not fill."""
        rising = all(a < b for a, b in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not (rising and 0.5 in self.quantiles and 0 < min(self.quantiles) <= max(self.quantiles) < 1):
            shown = ",".join(map(str, self.quantiles))
            raise ValueError(
                f"--quantiles: expected rising numbers between 0 and 1 with 0.5 among them, got {shown}"
            )
        if self.window % self.segment:
            raise ValueError(f"--window: expected a multiple of --segment {self.segment}, got {self.window}")
        return self

    @model_validator(mode="after")
    def _loss_fits(self):
        """Raise ValueError for what the chosen loss does not have."""
        if self.counts and self.instance_norm is not None:
            raise ValueError(
                "--instance-norm: expected none with --loss negative-binomial, which divides each window by "
                f"1 + its mean, got {self.instance_norm}"
            )
        if self.calibrate and (self.loss in _POINT or self.counts):
            raise ValueError(f"--calibrate: expected intervals of continuous values, got --loss {self.loss}")
        return self

    @property
    def counts(self) -> bool:
        """Whether the values are whole numbers from 0."""
        return self.loss == "negative-binomial"

    @property
    def norm(self) -> str:
        """The kind of `norms.InstanceNorm`."""
        return "counts" if self.counts else self.instance_norm or "mean"

    @property
    def levels(self) -> list[float]:
        """The quantiles that are forecast; none where there is a single value."""
        return [] if self.loss in _POINT else self.quantiles


# What a training that starts from a saved model does not take over from it, and what it may have otherwise.
_PARTS = ("train_steps", "dev_steps", "test_steps", "dev_fraction", "test_fraction")
_NOT_TAKEN_OVER = {"data", "output", "resume_from", *RUN_ONLY, *_PARTS}
_MAY_DIFFER = {
    *TrainingOptions.model_fields,
    *_NOT_TAKEN_OVER,
    "stride",
    "dropout",
    "header",
    "regularize",
    "samples",
    "classical",
}


class Config(TrainingOptions, RecurrentOptions, ModelOptions, DataOptions):
    """Forecasting."""

    resume_from: Path | None = Field(
        None,
        description="saved forecaster to train further, on newer rows of the same columns: its weights, "
        "scales, categories and options are where this training starts",
    )
    cell: Literal["lstm", "gru", "rnn"] = Field("gru", description="recurrent cell")
    bidirectional: bool = Field(False, description="read the window in both directions")
    dropout: float = Field(
        0.1, ge=0, le=1, description="share of activations dropped between and after the recurrent layers"
    )
    batch_rows: int = Field(256, ge=1, description="most windows in a batch")
    batch_tokens: int = Field(
        65_536, ge=1, description="steps of the recurrence in a batch, over all its windows"
    )
    learning_rate: float = Field(1e-3, gt=0, description="largest learning rate of the schedule")

    @model_validator(mode="wrap")
    @classmethod
    def _taken_over(cls, values: Any, complete: Callable[[Any], Self]) -> Self:
        """With `resume_from`, the options of that model where no other is given.

        Raises ValueError for a folder that is no forecaster, or an option that another network would need.
        """
        folder = values.get("resume_from") if isinstance(values, dict) else None
        if folder is None:
            return complete(values)
        stored = read_model(folder, task="forecast").config
        kept = {name: value for name, value in stored.items() if name not in _NOT_TAKEN_OVER}
        config = complete({**kept, **values})
        for name, value in config.model_dump(mode="json").items():
            if name not in _MAY_DIFFER and name in kept and value != kept[name]:
                raise ValueError(
                    f"--{name.replace('_', '-')}: {folder} has {kept[name]}, got {value}; only a training "
                    "that does not start from it can have that"
                )
        return config

    @model_validator(mode="after")
    def _decoder_fits(self):
        """Raise ValueError for a decoder that would have to run backwards, or would lack a value to draw."""
        if self.segment > 1 and self.bidirectional:
            raise ValueError("--bidirectional: expected --segment 1, for segments are decoded forwards")
        if self.decoder == "direct":
            return self
        if self.loss not in _DRAWN:
            raise ValueError(
                f"--decoder autoregressive: expected --loss {', '.join(_DRAWN[:-1])} or {_DRAWN[-1]}, from "
                f"which values can be drawn, got {self.loss}"
            )
        for name, value, wanted in (("segment", self.segment, 1), ("gap", self.gap, 0)):
            if value != wanted:
                raise ValueError(f"--decoder autoregressive: expected --{name} {wanted}, got {value}")
        if self.bidirectional:
            raise ValueError("--decoder autoregressive: expected --no-bidirectional, for it reads forwards")
        return self


class EvaluateOptions(options.EvaluateOptions):
    """Evaluation."""

    last_steps: int | None = Field(
        None,
        ge=1,
        description="measure forecasts of the last steps of a series; of all that follow a whole window if "
        "not given",
    )
    stride: int = Field(1, ge=1, description="steps from one forecast to the next")
    classical: int = Field(
        20,
        ge=0,
        description="at so many origins, spread over series and steps, also fit exponential smoothing, and "
        "show it beside the model there; 0 does not",
    )


class PredictOptions(options.ModelOptions):
    """Prediction: the steps that follow the training data, or those that follow a file."""

    horizon: int | None = Field(
        None, ge=1, description="steps to forecast; at most those of training, which is the default"
    )
    last: Path | None = Field(
        None,
        description="table with the latest values, of any series; the end of the training data if not given",
    )
    output: Path | None = Field(None, description="csv file to write; standard output if not given")
    plot: Path | None = Field(
        None,
        description="file for a picture of history, forecast and intervals: .png, or .html to zoom into",
    )

    @model_validator(mode="after")
    def _plot_has_a_kind(self):
        """Raise ValueError for a plot that is neither PNG nor HTML."""
        if self.plot is not None and self.plot.suffix not in (".png", ".html"):
            raise ValueError(f"--plot: expected a file name that ends in .png or .html, got {self.plot}")
        return self
