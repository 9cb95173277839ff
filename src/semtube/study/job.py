"""One run of a study, start to end: train unless that is done, then decode what is asked for."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.run_folder import RunFolder, WriteError, writing
from semtube.study.failures import keep_failure, sentence_of
from semtube.study.store import READS, Store
from semtube.tasks.catalogue import TASKS


@dataclass(frozen=True)
class Job:
    """What a worker gets: plain values, so that it can be sent anywhere.

    Args:
        run: the id.
        config: settings of the run, as RunConfig.from_dict takes them.
        read: splits to decode.
        store: folder of the store.
        threads: CPU threads of the worker.
        retry: whether to try a run again that failed before.
        score: that decoded rows must have, or they are damaged.
    """

    run: str
    config: dict[str, Any]
    read: tuple[str, ...]
    store: str
    threads: int = 1
    retry: bool = False
    score: str = "exact_match"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: done, failed, interrupted, held by another process, or for want of room.

    Args:
        status: `unwritable` where the disk refused a write: no other job will do better.
        notes: what a person should know, such as files set aside.
    """

    status: Literal["done", "failed", "elsewhere", "interrupted", "unwritable"]
    error: str | None = None
    notes: tuple[str, ...] = field(default=())


def lost(job: Job, sentence: str) -> Outcome:
    """Of a job whose worker was lost too often: it failed, and its folder says why."""
    keep_failure(Store(Path(job.store)).folder(job.run), UserError(sentence))
    return Outcome("failed", sentence)


def do_job(job: Job) -> Outcome:
    """Do what is missing of a run. Never raises for what went wrong in the run itself."""
    store = Store(Path(job.store))
    try:
        with store.hold(job.run) as is_held:
            return _do_held(job, store) if is_held else Outcome("elsewhere")
    except WriteError as error:
        return Outcome("unwritable", error.sentence)


def _do_held(job: Job, store: Store) -> Outcome:
    notes = store.set_aside_damage(job.run, job.score)
    known = store.failure(job.run)
    if known is not None and not job.retry:
        return Outcome("failed", known, notes)
    from semtube.study.run import Interrupted

    folder = store.folder(job.run)
    folder.remove_parts()
    with writing(folder.failure):
        folder.failure.unlink(missing_ok=True)
    try:
        _finish(job, store, folder)
    except Interrupted:
        return Outcome("interrupted", notes=notes)
    except WriteError:
        raise
    except Exception as error:
        # Also before and after training, where the run itself does not note it.
        keep_failure(folder, error)
        return Outcome("failed", sentence_of(error), notes)
    return Outcome("done", notes=notes)


def _finish(job: Job, store: Store, folder: RunFolder) -> None:
    from semtube.study.reading import read_split
    from semtube.study.run import RunListener, execute

    config = replace(RunConfig.from_dict(job.config), output=str(folder.path), threads=job.threads)
    if not folder.is_done:
        begun = folder.config.is_file() and folder.identity.is_file()
        if not begun:
            # Killed while it began, or failed before: nothing in it is of use.
            shutil.rmtree(folder.path, ignore_errors=True)
        execute(config, resume=begun, listener=RunListener())
    for split in job.read:
        if not store.is_read(job.run, (split,), job.score):
            read_split(folder, split, job.score, num_threads=job.threads)


def note_read(folder: Path) -> None:
    """Count one decoding of a split's rows, also one that is killed before its scores are kept."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}) + "\n"
    path = folder / READS
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


def plain_config(config: RunConfig) -> dict[str, Any]:
    """As a job holds it, with the data's absolute paths: a cluster's workers begin elsewhere.

    A model is named as it was: its name is a part of the run's id.
    """
    values = asdict(config)
    if config.task not in TASKS:  # these name splits of the task's own data
        values |= {name: _absolute(values[name]) for name in ("data", "validation", "test")}
    if not (config.data_folder or "").startswith("hf://"):
        values["data_folder"] = _absolute(config.data_folder)
    if databases := config.task_options.get("databases"):
        values["task_options"]["databases"] = _absolute(databases)
    return values


def _absolute(path: str | None) -> str | None:
    return path and str(Path(path).absolute())
