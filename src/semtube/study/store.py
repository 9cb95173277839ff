"""Runs of studies on disk, each under its id; damaged files are set aside, never trusted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from semtube.errors import UserError
from semtube.evaluation.compare import read_records
from semtube.run_folder import (
    FORMAT,
    RunFolder,
    WriteError,
    read_formatted,
    read_json,
    write_json,
    writing,
)

#: Of a split that is decoded: its scores, written last, and a line for every decoding.
METRICS, READS = "metrics.json", "reads.jsonl"


class Store:
    """The runs of one study or of several.

    ID/               a RunFolder
    .locks/ID.lock    held by the process that works on it, and free when that process ends
    ID.damaged-N/     set aside: a file of it could not be read
    ID/SPLIT.damaged-N/   the same of the scores of a split
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, run: str) -> RunFolder:
        """Where a run is."""
        return RunFolder(self.path / run)

    def open(self) -> None:
        """Make it where there is none.

        Raises:
            UserError: it was written by a newer version, or cannot be written.
        """
        with writing(self.path):
            (self.path / ".locks").mkdir(parents=True, exist_ok=True)
        stored = self.path / "store.json"
        if not stored.is_file():
            write_json(stored, {"format": FORMAT})
        read_formatted(stored)

    @contextlib.contextmanager
    def hold(self, run: str) -> Iterator[bool]:
        """Keep every other process off a run; False where another has it.

        The system holds the lock for the process, whatever a clock says.

        Raises:
            WriteError: the lock's file.
        """
        lock = FileLock(self.path / ".locks" / f"{run}.lock")
        with writing(lock.lock_file), contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def set_aside_damage(self, run: str) -> tuple[str, ...]:
        """Move a run, or what it has decoded, out of the way if a file cannot be read; says so.

        Only for the process that holds the run.
        """
        folder = self.folder(run)
        for path in (folder.config, folder.identity, folder.environment, folder.result):
            if (problem := _problem(path)) is not None:
                aside = _set_aside(folder.path, folder.path)
                return (f"{problem}: set aside as {aside.name}, the run is done again",)
        notes = []
        for reading in sorted(folder.readings.glob("*/")):
            if (problem := _problem_of_reading(reading)) is not None:
                # Beside the readings, or it would be taken for a split.
                aside = _set_aside(reading, folder.path / reading.name)
                notes.append(f"{problem}: set aside as {aside.name}, the rows are decoded again")
                reads = aside / READS
                if reads.is_file():  # how often the rows were decoded stays known
                    with writing(reading):
                        reading.mkdir()
                        reads.rename(reading / READS)
        return tuple(notes)

    def is_read(self, run: str, split: str) -> bool:
        """Whether a run is done and has decoded a split."""
        folder = self.folder(run)
        reading = folder.readings / split
        has_both = _is_whole(folder.result) and (reading / METRICS).exists()
        return has_both and _problem_of_reading(reading) is None

    def failure(self, run: str) -> str | None:
        """Why a run failed; None too where the disk was at fault, which is no fault of the run."""
        folder = self.folder(run)
        if folder.is_done or not folder.failure.is_file():
            return None
        try:
            failure = read_json(folder.failure)
            return None if failure.get("kind") == WriteError.__name__ else str(failure["error"])
        except (UserError, KeyError, TypeError, AttributeError):
            return f"{folder.failure}: cannot be read"

    def step(self, run: str) -> int:
        """The last step that a run has logged; 0 before the first."""
        try:
            with self.folder(run).metrics.open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 4096))
                lines = file.read().splitlines()
        except OSError:
            return 0
        for line in reversed(lines):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return int(json.loads(line)["step"])
        return 0


def _problem(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        read_json(path)
    except UserError as error:
        return str(error)
    return None


def _problem_of_reading(reading: Path) -> str | None:
    """What is wrong with a split's scores; those that were not written to their end are not."""
    if not (reading / METRICS).exists():
        return None
    try:
        read_json(reading / METRICS)
        read_records(reading / "examples.jsonl")
    except UserError as error:
        return str(error)
    return None


def _set_aside(path: Path, name: Path) -> Path:
    """Rename to NAME.damaged-N, the first N that is free."""
    number = 1
    while (aside := name.with_name(f"{name.name}.damaged-{number}")).exists():
        number += 1
    with writing(aside):
        path.rename(aside)
    return aside


def _is_whole(path: Path) -> bool:
    return path.exists() and _problem(path) is None
