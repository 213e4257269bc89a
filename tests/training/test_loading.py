"""Batches in an order that can be taken up again, and shares that cover the data once."""

from pathlib import Path

import pytest
import torch

from penstock.training.loading import measuring_loader, training_loader
from tests.training.toy import ToyJob, toy_config


@pytest.fixture
def job(tmp_path: Path) -> ToyJob:
    return make_job(tmp_path)


def make_job(folder: Path, **options: int) -> ToyJob:
    config = toy_config(folder / "model", **options)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    ToyJob.prepare(config, data)
    return ToyJob(config, data)


def test_epochs_differ_and_resume_where_they_were(job: ToyJob) -> None:
    loader = training_loader(job, 0, 1)
    epochs = [[batch["inputs"] for batch in loader] for _ in range(3)]
    assert [batch.tolist() for batch in epochs[0]] != [batch.tolist() for batch in epochs[1]]

    resumed = training_loader(job, 0, 1, epoch=1, first=3)
    for expected in (epochs[1][3:], epochs[2]):
        for ours, theirs in zip(resumed, expected, strict=True):
            assert torch.equal(ours["inputs"], theirs)


def test_workers_give_the_same_batches(tmp_path: Path) -> None:
    plain, helped = (training_loader(make_job(tmp_path, workers=n), 0, 1, epoch=2) for n in (0, 1))
    for ours, theirs in zip(helped, plain, strict=True):
        assert torch.equal(ours["inputs"], theirs["inputs"])


def test_processes_measure_every_example_once(job: ToyJob) -> None:
    loaders = [measuring_loader(job, job.dev_data, rank, 3) for rank in range(3)]
    batches = [[batch["inputs"].tolist() for batch in loader] for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(part) for part in batches]
    alone = [batch["inputs"].tolist() for batch in measuring_loader(job, job.dev_data)]
    assert sorted(batch for part in batches for batch in part) == sorted(alone)


def test_every_process_has_something_of_a_single_batch(tmp_path: Path) -> None:
    job = make_job(tmp_path, batch_rows=1000, batch_tokens=100_000)
    (alone,) = measuring_loader(job, job.dev_data)
    shares = [list(measuring_loader(job, job.dev_data, rank, 3)) for rank in range(3)]
    assert all(shares)

    def examples(batch: dict[str, torch.Tensor]) -> list[list[int]]:
        return [[token for token in row if token] for row in batch["inputs"].tolist()]

    assert sorted(e for share in shares for batch in share for e in examples(batch)) == sorted(
        examples(alone)
    )
