"""One run of a study, start to end: train unless that is done, then decode what is asked for."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.run_folder import RunFolder, write_json
from semtube.study.store import Store


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
    """

    run: str
    config: dict[str, Any]
    read: tuple[str, ...]
    store: str
    threads: int = 1
    retry: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended: done, failed, interrupted, or held by another process.

    Args:
        notes: what a person should know, such as files set aside.
    """

    status: Literal["done", "failed", "elsewhere", "interrupted"]
    error: str | None = None
    notes: tuple[str, ...] = field(default=())


def do_job(job: Job) -> Outcome:
    """Do what is missing of a run. Never raises for what went wrong in the run itself."""
    store = Store(Path(job.store))
    with store.hold(job.run) as is_held:
        if not is_held:
            return Outcome("elsewhere")
        note = store.set_aside_damage(job.run)
        notes = (note,) if note else ()
        known = store.failure(job.run)
        if known is not None and not job.retry:
            return Outcome("failed", known, notes)
        from semtube.study.run import Interrupted

        try:
            _finish(job, store.folder(job.run))
        except Interrupted:
            return Outcome("interrupted", notes=notes)
        except Exception as error:
            sentence = str(error) if isinstance(error, UserError) else _named(error)
            _keep_failure(store.folder(job.run), sentence, error)
            return Outcome("failed", sentence, notes)
        return Outcome("done", notes=notes)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _keep_failure(folder: RunFolder, sentence: str, error: Exception) -> None:
    """Also of a failure before or after training, which the run itself does not note."""
    if folder.is_done or folder.failure.is_file():
        return
    with contextlib.suppress(OSError):  # the disk may be full
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.failure, {"error": sentence, "kind": type(error).__name__})


def _finish(job: Job, folder: RunFolder) -> None:
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
        if not Store(folder.path.parent).is_read(job.run, split):
            read_split(folder, split, num_threads=job.threads)


def note_read(folder: Path) -> None:
    """Count one decoding of a split's rows, also one that is killed before its scores are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "reads.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}) + "\n")


def plain_config(config: RunConfig) -> dict[str, Any]:
    """As a job holds it."""
    return asdict(config)
