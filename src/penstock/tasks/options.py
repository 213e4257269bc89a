"""Options that the verbs evaluate and predict have for every task; free of torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from penstock.training.config import Options, positional


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Path)) else value


Files = Annotated[list[Path], BeforeValidator(_as_list)]
"""Several files; in Python and YAML one alone needs no list."""


class StartOptions(Options):
    """Start."""

    init_from: Path | None = Field(
        None,
        description="folder of a language model (penstock train lm) to start from: its vocabulary, embedding "
        "and recurrent layers, and with them its cell and sizes",
    )

    @model_validator(mode="after")
    def _one_start(self):
        """Raise ValueError for an embedding from two sources."""
        vectors = getattr(self, "vectors", None)
        if self.init_from and vectors:
            raise ValueError(
                f"vectors={vectors}: give either word vectors or init_from={self.init_from}, not both"
            )
        return self


class ModelOptions(Options):
    """Running the model."""

    batch_tokens: int = Field(16384, ge=1, description="steps in a batch, padding included")
    threads: int | None = Field(None, ge=1, description="CPU threads; all that torch may use if not given")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to run")


class EvaluateOptions(ModelOptions):
    """Evaluation."""

    data: Path = Field(description="file with the right answers", json_schema_extra=positional("DATA"))
    json_file: Path | None = Field(None, alias="json", description="also write all figures to this file")


class PredictOptions(ModelOptions):
    """Prediction."""

    inputs: list[str] = Field([], description="what to predict for", json_schema_extra=positional("INPUT"))
    input: Path | None = Field(None, description="file to predict for; standard input if neither is given")
    output: Path | None = Field(None, description="file to write; standard output if not given")
