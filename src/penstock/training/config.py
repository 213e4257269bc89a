"""The options that every training run shares, as pydantic models.

A task's configuration is one flat class that inherits from both mixins here. Every field is a flag of the
command line (`--kebab-case`), a key of the YAML file (`snake_case`) and an argument in Python, with one
description, one default and one range for all three. This module imports neither torch nor Lightning.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penstock.errors import InputError

Model = TypeVar("Model", bound=BaseModel)

# Options that say how a run is started, not what is trained: they are not stored with the model.
RUN_ONLY = ("overwrite", "resume")
# Options that say what a training started from: stored for the record, of no meaning to the finished model.
STARTED_FROM = ("resume_from",)


def positional(metavar: str) -> dict[str, Any]:
    """`json_schema_extra` of a field that the command line takes by position, shown as `metavar`."""
    return {"positional": metavar}


def validated(model: type[Model], values: dict[str, Any]) -> Model:
    """`model` with these values.

    Raises:
        InputError: naming the first value that is wrong, or what does not go together.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(sentence(error)) from None


def sentence(error: ValidationError) -> str:
    """The first mistake that pydantic found, in one sentence that names the field and the value."""
    first = error.errors()[0]
    if first["loc"]:
        return f"{first['loc'][0]}: {first['msg'].lower()}, got {first['input']!r}"
    return str(first["ctx"]["error"]) if "ctx" in first else first["msg"]


class Options(BaseModel):
    """Base of all configurations: unknown keys are mistakes, and a validated value does not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, populate_by_name=True
    )


class TrainingOptions(Options):
    """Training."""

    output: Path = Field(description="folder the trained model is written to")
    overwrite: bool = Field(
        False, description="replace the model that OUTPUT already holds, once the new one is trained"
    )
    resume: bool = Field(False, description="go on with the training that was interrupted in OUTPUT")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of weights, shuffling, dropout and data splits")
    threads: int | None = Field(None, ge=1, description="CPU threads; all that torch may use if not given")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    processes: int = Field(1, ge=1, description="processes (or GPUs) to train with on this machine")
    nodes: int = Field(
        1,
        ge=1,
        description="machines to train with; start the same command on each, with NODE_RANK, MASTER_ADDR and "
        "MASTER_PORT in the environment",
    )
    workers: int = Field(0, ge=0, description="extra processes that load batches")

    checkpoint_minutes: float = Field(
        10, gt=0, description="longest time between two checkpoints; one is also written after every epoch"
    )

    epochs: int = Field(10, ge=1, description="times to go through the training data")
    patience: int = Field(
        3,
        ge=0,
        description="stop after so many epochs without a better metric on the dev data (with asgd: so many "
        "since it averages); 0 never stops",
    )
    batch_tokens: int = Field(
        8192, ge=1, description="steps in a batch, padding included: short sequences make larger batches"
    )
    batch_rows: int = Field(64, ge=1, description="most sequences in a batch")
    optimizer: Literal["adam", "adamw", "sgd", "asgd"] = Field(
        "adam",
        description="optimizer; asgd is sgd without momentum, and from some epoch on (--non-monotone) "
        "averages the weights, which are then what is evaluated and saved",
    )
    non_monotone: int = Field(
        5,
        ge=1,
        description="asgd averages after the first epoch that is worse on the dev data than one more than so "
        "many epochs before it (NT-ASGD, Merity et al. 2018)",
    )
    learning_rate: float = Field(2e-3, gt=0, description="largest learning rate of the schedule")
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum of sgd (of adam and adamw: decay of the first moment); asgd has none",
    )
    weight_decay: float = Field(0.0, ge=0, description="weight decay (decoupled for adamw)")
    schedule: Literal["constant", "linear", "cosine", "plateau"] = Field(
        "cosine",
        description="learning rate after warm-up: falling to zero over all epochs (linear, cosine), or "
        "halved whenever an epoch brings no better dev metric (plateau)",
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of all steps over which the learning rate first rises from zero"
    )
    clip_norm: float = Field(
        1.0, ge=0, description="largest Euclidean norm of the gradient of all weights; 0 does not clip"
    )
    unfreeze_every: int = Field(
        0,
        ge=0,
        description="train the output alone at first, and one layer more, from the top down, after every so "
        "many epochs, for a model that starts from a trained one; 0 trains all layers from the start",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of each layer as a share of that of the layer above it"
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights (0.999, say), which is then what "
        "is evaluated and saved; 0 keeps no average",
    )

    @model_validator(mode="after")
    def _one_average(self):
        """Raise ValueError for two averages of the weights."""
        if self.average and self.optimizer == "asgd":
            raise ValueError(f"average={self.average}: optimizer='asgd' has an average of its own; give one")
        return self


class RecurrentOptions(Options):
    """Recurrent layers."""

    cell: Literal["lstm", "gru", "rnn"] = Field("lstm", description="recurrent cell")
    layers: int = Field(1, ge=1, description="stacked recurrent layers")
    hidden_size: int = Field(128, ge=1, description="units of a layer in one direction")
    bidirectional: bool = Field(True, description="read every sequence in both directions")
    dropout: float = Field(
        0.5, ge=0, le=1, description="share of activations dropped between and after the recurrent layers"
    )
    peephole: bool = Field(False, description="let the gates of an lstm see its cell state")
    projection_size: int = Field(
        0, ge=0, description="size an lstm's output is projected to; 0 does not project"
    )
    reset_after: bool = Field(
        True, description="reset gate of a gru after the recurrent product (as torch) or before it (Cho 2014)"
    )
    nonlinearity: Literal["tanh", "relu"] = Field("tanh", description="activation of a plain rnn")

    @model_validator(mode="after")
    def _options_fit_cell(self):
        """Raise ValueError for an option that the chosen cell does not have."""
        foreign = {
            "peephole": ("lstm", self.peephole),
            "projection_size": ("lstm", self.projection_size > 0),
            "reset_after": ("gru", not self.reset_after),
            "nonlinearity": ("rnn", self.nonlinearity != "tanh"),
        }
        for name, (cell, chosen) in foreign.items():
            if chosen and self.cell != cell:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} needs cell={cell!r}, got cell={self.cell!r}"
                )
        if self.projection_size >= self.hidden_size:
            raise ValueError(
                f"projection_size: expected less than hidden_size={self.hidden_size}, "
                f"got {self.projection_size}"
            )
        return self
