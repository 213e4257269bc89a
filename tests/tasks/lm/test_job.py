"""The job: what processes share, and that they measure as one."""

from pathlib import Path

import pytest

from penstock.tasks.lm.data import TextData
from penstock.tasks.lm.job import LmJob
from penstock.training.loading import measuring_loader, training_loader
from penstock.training.measure import measure
from tests.tasks.lm.conftest import Write
from tests.tasks.lm.text import sentences, small_config


@pytest.fixture
def job(tmp_path: Path, write: Write) -> LmJob:
    config = small_config(write("text.txt", sentences(400, seed=1)), tmp_path / "out", dev_fraction=0.5)
    folder = tmp_path / "prepared"
    folder.mkdir()
    LmJob.prepare(config, folder)
    return LmJob(config, folder)


def test_processes_measure_every_token_once(job: LmJob) -> None:
    alone = measure(job.model, job.metric(), measuring_loader(job, job.dev_data))
    metric = job.metric()
    losses = [measure(job.model, metric, measuring_loader(job, job.dev_data, rank, 3)) for rank in range(3)]
    assert isinstance(job.dev_data, TextData)
    assert int(metric.tokens) == len(job.dev_data)
    assert float(metric.characters) == pytest.approx(job.dev_data.characters)
    assert float(losses[-1]["nats"]) == pytest.approx(float(alone["nats"]), rel=1e-3)
    assert float(alone["loss"]) == pytest.approx(float(alone["nats"]), rel=1e-4)


def test_training_goes_on_within_an_epoch(job: LmJob) -> None:
    whole = [batch["targets"].tolist() for batch in training_loader(job, 0, 1, epoch=1)]
    rest = [batch["targets"].tolist() for batch in training_loader(job, 0, 1, epoch=1, first=7)]
    assert rest == whole[7:]
    begins = [batch["begins"].tolist() for batch in training_loader(job, 0, 1)]
    assert begins[0] == [True] * 4
    assert not any(map(any, begins[1:]))
