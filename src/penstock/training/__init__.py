"""The one training path of all tasks: `fit(JobClass, config) -> Report`.

Importing this package imports neither torch nor Lightning; `fit` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.training.job import Job
    from penstock.training.observer import Observer
    from penstock.training.report import Report

__all__ = ["fit"]


def fit(job_class: "type[Job]", config: Any, observer: "Observer | None" = None) -> "Report":
    """Train `job_class` on `config`; see `penstock.training.run.fit`."""
    from penstock.training.run import fit as run  # noqa: PLC0415  (keeps torch out of the command line's start)

    return run(job_class, config, observer)
