"""The options of `penstock search` beside those of the task; free of torch and Optuna."""

from typing import Literal

from pydantic import Field

from penstock.training.config import Options


class SearchOptions(Options):
    """Search."""

    trials: int = Field(
        20,
        ge=1,
        description="trainings in all, those that an earlier run of the command has finished included",
    )
    timeout: float | None = Field(
        None, gt=0, description="minutes after which to stop; the same command goes on later"
    )
    pruner: Literal["median", "halving", "none"] = Field(
        "median",
        description="which trials end early: those worse than the median of earlier ones after as many "
        "epochs, all but the best quarter (successive halving), or none",
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="choose by what earlier trials have shown (Bergstra et al. 2011), or at random"
    )
