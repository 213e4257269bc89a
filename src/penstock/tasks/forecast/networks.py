"""The forecaster that a configuration describes."""

from typing import Any

from penstock.tasks.forecast.autoregressive import AutoregressiveForecaster
from penstock.tasks.forecast.config import Config
from penstock.tasks.forecast.direct import DirectForecaster
from penstock.tasks.forecast.model import Forecaster


def forecaster(config: Config, **architecture: Any) -> Forecaster:
    """A freshly initialised network; `architecture` as the further arguments of `Forecaster`."""
    network = AutoregressiveForecaster if config.decoder == "autoregressive" else DirectForecaster
    return network(config, **architecture)
