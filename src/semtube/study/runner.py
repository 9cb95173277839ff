"""Do a study: tune, choose, run the final runs, decode; stop anywhere and go on."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from semtube.errors import UserError
from semtube.run_folder import FORMAT, WriteError, read_formatted, read_json, write_json, writing
from semtube.study.choosing import choose
from semtube.study.design import Study
from semtube.study.fixed_first import change_entry, change_sentence, changed_names
from semtube.study.generated import write_generated
from semtube.study.job import Job, Outcome, plain_config
from semtube.study.plan import Identities, PlannedRun, final_runs, tuning_runs
from semtube.study.store import Store

#: Of generated rows the share that is kept for testing.
TEST_FRACTION = 0.1


class Workers(Protocol):
    """What does jobs: LocalWorkers or RayWorkers."""

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome] | None]:
        """Each job with its outcome as it ends; None at every look in between."""
        ...

    def stop(self) -> None:
        """End them."""
        ...


@dataclass
class StudyListener:
    """Where a study reports what a person wants to see; every hook may be left out.

    Args:
        on_phase: its name, all of its runs, the ids of those with nothing left to do, the store.
    """

    say: Callable[[str], None] = lambda sentence: None
    on_phase: Callable[[str, Sequence[PlannedRun], Collection[str], Store], None] = lambda *_: None
    on_end: Callable[[PlannedRun, Outcome], None] = lambda *_: None
    on_tick: Callable[[], None] = lambda: None


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The study was ended by a signal."""


class StudyFolder:
    """A study on disk.

    study.json   question, arms, axes: the study as it was asked for
    plan.json    its runs, tuning and final
    chosen.json  the settings chosen on validation rows, with all trials
    data/        generated rows, where the study asks for them
    runs/        the store, unless several studies share one

    Args:
        runs: the store; unset for where the runs of the study are already, or else runs/.

    Raises:
        UserError: a study.json that is damaged or of a newer version.
    """

    def __init__(self, path: Path, runs: Path | None = None) -> None:
        self.path = path
        self.study = path / "study.json"
        self.plan = path / "plan.json"
        self.chosen = path / "chosen.json"
        self.data = path / "data"
        if runs is None and self.study.is_file():
            runs = path / read_formatted(self.study)["runs"]
        self.store = Store(runs or path / "runs")

    def begin(self, study: Study, say: Callable[[str], None] = lambda sentence: None) -> Study:
        """Store what is asked for, and give the study with its generated rows, if any.

        What a study fixes first is not changed in silence once runs are done: the values from
        before stay in study.json, under `changed`, for the report.

        Raises:
            UserError: the folder holds something else or cannot be written.
        """
        values: dict[str, Any] = {
            **json.loads(json.dumps(study.to_dict())),
            "format": FORMAT,
            "runs": os.path.relpath(self.store.path, self.path),
            "changed": [],
        }
        if self.study.is_file():
            before = read_formatted(self.study)
            values["changed"] = before.get("changed", [])
            runs = self._planned_runs()
            num_done = sum(self.store.folder(run).is_done for run in runs)
            if num_done and (names := changed_names(before, values)):
                values["changed"].append(change_entry(before, num_done, len(runs)))
                say(change_sentence(names, num_done, len(runs)))
        elif self.path.exists() and any(self.path.iterdir()):
            raise UserError(f"output {str(self.path)!r} holds other files: choose another")
        with writing(f"output {str(self.path)!r}"):
            self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.study, values)
        self.store.open()
        return self.with_generated(study, write=True)

    def _planned_runs(self) -> set[str]:
        """As planned at an earlier start."""
        if not self.plan.is_file():
            return set()
        return {run["run"] for run in read_json(self.plan)["runs"]}

    def with_generated(self, study: Study, *, write: bool) -> Study:
        """The study with the paths of its generated rows, which are written where they are not."""
        if study.generated is None:
            return study
        if write:
            self._write_generated(study.generated)
        paths = {name: str(self.data / f"{name}.jsonl") for name in ("train", "test")}
        rows = {"data": paths["train"], "test": paths["test"]}
        return replace(study, base={**study.base, **rows}, generated=None)

    def _write_generated(self, num_pairs: int) -> None:
        """Where another runner begins as well, one writes and the other waits."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".data.lock").acquire()
        with lock:
            if not self.data.is_dir():
                write_generated(
                    self.data,
                    num_pairs=num_pairs,
                    validation_fraction=0.0,
                    test_fraction=TEST_FRACTION,
                    seed=0,
                )


def run_study(
    study: Study,
    folder: StudyFolder,
    workers: Workers,
    *,
    threads: int = 1,
    retry: bool = False,
    listener: StudyListener | None = None,
) -> None:
    """Do what is missing of a study.

    Args:
        threads: CPU threads of every run.
        retry: whether runs that failed before are tried again.

    Raises:
        UserError: bad data, or a folder that cannot be used.
        WriteError: as on a full disk; what was saved is there to go on from.
        Stopped: ended by a signal; what was saved is there to go on from.
    """
    listener = listener or StudyListener()
    study = folder.begin(study, listener.say)
    identities = Identities()
    tuning = list(tuning_runs(study, identities))
    choices: dict[str, Any] = {}

    def do(phase: str, runs: Sequence[PlannedRun]) -> None:
        planned = {run.run: run for run in runs}
        store = str(folder.store.path.absolute())
        score = study.primary
        try:
            whole = {id for id, r in planned.items() if folder.store.is_read(id, r.read, score)}
            listener.on_phase(phase, runs, whole, folder.store)
            jobs = [
                Job(id, plain_config(run.config), run.read, store, threads, retry, score)
                for id, run in planned.items()
                if id not in whole
            ]
            _do_jobs(jobs, planned, workers, listener)
        except KeyboardInterrupt:
            raise Stopped from None

    write_json(folder.plan, {"runs": [run.to_dict() for run in tuning]})
    if tuning:
        do("tuning", tuning)
        choices = choose(study, tuning, folder.store)
        write_json(folder.chosen, choices)
        for arm in study.arms:
            if arm not in choices:
                listener.say(f"every tuning run of {arm!r} failed: it has no final runs")
    final = list(final_runs(study, choices, identities))
    write_json(folder.plan, {"runs": [run.to_dict() for run in [*tuning, *final]]})
    do("final", final)


def _do_jobs(
    jobs: Sequence[Job],
    planned: Mapping[str, PlannedRun],
    workers: Workers,
    listener: StudyListener,
) -> None:
    for attempt in itertools.count():
        elsewhere = []
        for event in workers.run(jobs):
            if event is None:
                listener.on_tick()
                continue
            job, outcome = event
            if outcome.status == "interrupted":
                raise Stopped
            if outcome.status == "unwritable":
                raise WriteError(str(outcome.error))
            if outcome.status == "elsewhere":
                elsewhere.append(job)
            else:
                listener.on_end(planned[job.run], outcome)
        if not elsewhere:
            return
        if attempt == 0:
            listener.say(f"{len(elsewhere)} runs are done by another runner: waiting for them")
        jobs = elsewhere
        time.sleep(1.0)
