"""A study of seconds, and its runs in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from semtube.study.design import Study, Tuning
from semtube.study.job import Job, Outcome, do_job

STUDY = Study(
    question="Which learns more?",
    hypothesis="Neither.",
    base={
        "validation_rows": 30,
        "model": "tiny-0.3m",
        "steps": 6,
        "batch_size": 8,
        "checkpoint_every": 2,
        "max_new_tokens": 8,
    },
    arms={"ntp": {"objective": "ntp"}, "tube": {"objective": "tube"}},
    axes={"fraction": [1.0, 0.25], "seed": [1, 2]},
    baseline="ntp",
    deciding={"arm": "tube", "at": {"fraction": 0.25}},
    tuning=Tuning(
        grids={"ntp": {"learning_rate": [2e-3, 4e-3]}, "tube": {"weight": [0.02, 0.08]}},
        at={"fraction": [0.25]},
    ),
    generated=150,
    name="small",
)


def changed(**fields: Any) -> Study:
    """The small study with other fields."""
    return replace(STUDY, **fields)


class InThisProcess:
    """Workers that are this process; keeps what was asked of them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome] | None]:
        for job in jobs:
            self.jobs.append(job)
            yield job, do_job(job)
            yield None

    def stop(self) -> None:
        pass
