"""A study of seconds, and its runs in this process."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtube.run_folder import read_json
from semtube.study.design import Study, Tuning
from semtube.study.job import Job, Outcome, do_job
from semtube.study.plan import PlannedRun
from semtube.study.runner import StudyFolder, StudyListener, run_study

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


ONE_SEED = changed(axes={"seed": [1]}, deciding={"arm": "tube"}, tuning=None)


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


def do_study(
    study: Study, path: Path, **options: Any
) -> tuple[StudyFolder, InThisProcess, list[tuple[PlannedRun, Outcome]]]:
    """Its folder, its workers, and how each run ended."""
    folder, workers, ended = StudyFolder(path), InThisProcess(), []
    listener = StudyListener(on_end=lambda run, outcome: ended.append((run, outcome)))
    run_study(study, folder, workers, listener=listener, **options)
    return folder, workers, ended


def copy(done: StudyFolder, tmp_path: Path) -> Path:
    """To damage it."""
    shutil.copytree(done.path, tmp_path / "copy")
    return tmp_path / "copy"


def planned(done: StudyFolder) -> list[dict[str, Any]]:
    """The lines of its plan."""
    return read_json(done.plan)["runs"]
