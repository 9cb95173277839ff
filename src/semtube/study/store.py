"""Runs of studies on disk, each under its id; damaged files are set aside, never trusted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from semtube.errors import UserError
from semtube.evaluation.stored_runs import read_object, read_reading, read_run
from semtube.run_folder import (
    FORMAT,
    RunFolder,
    WriteError,
    read_formatted,
    write_json,
    writing,
)

#: Of a split that is decoded: its scores, written last, and a line for every decoding.
METRICS, READS = "metrics.json", "reads.jsonl"


class Store:
    """The runs of one study or of several.

    ID/               a RunFolder
    .locks/ID.lock    held by the process that works on it, and free when that process ends
    ID.damaged-N/     set aside: a file of it is damaged
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

    def set_aside_damage(self, run: str, score: str) -> tuple[str, ...]:
        """Move a run, or what it has decoded, out of the way if a file is damaged; says so.

        Only for the process that holds the run.

        Args:
            score: that decoded rows must have.
        """
        folder = self.folder(run)
        if (problem := _problem(read_run, folder)) is not None:
            aside = _set_aside(folder.path, folder.path)
            return (f"{problem}: set aside as {aside.name}, the run is done again",)
        notes = []
        for reading in _readings(folder):
            if (problem := _problem(read_reading, reading, score)) is not None:
                # Beside the readings, or it would be taken for a split.
                aside = _set_aside(reading, folder.path / reading.name)
                notes.append(f"{problem}: set aside as {aside.name}, the rows are decoded again")
                reads = aside / READS
                if reads.is_file():  # how often the rows were decoded stays known
                    with writing(reading):
                        reading.mkdir()
                        reads.rename(reading / READS)
        return tuple(notes)

    def is_trained(self, run: str) -> bool:
        """Whether a run has its result, and no damaged file."""
        folder = self.folder(run)
        return folder.is_done and _problem(read_run, folder) is None

    def is_read(self, run: str, splits: Sequence[str], score: str) -> bool:
        """Whether a run has its result, these splits' rows with a score, and no damaged file."""
        readings = _readings(self.folder(run))
        return (
            {*splits} <= {reading.name for reading in readings}
            and self.is_trained(run)
            and all(_problem(read_reading, reading, score) is None for reading in readings)
        )

    def failure(self, run: str) -> str | None:
        """Why a run failed; None too where the disk was at fault, which is no fault of the run.

        Raises:
            UserError: failure.json is damaged.
        """
        folder = self.folder(run)
        if not folder.failure.is_file():
            return None
        failure = read_object(folder.failure)
        is_of_disk = failure.get("kind") == WriteError.__name__
        return None if is_of_disk else str(failure.get("error", "no cause was kept"))

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


def _readings(folder: RunFolder) -> list[Path]:
    """Those that were written to their end."""
    return sorted(path.parent for path in folder.readings.glob(f"*/{METRICS}"))


def _problem(read: Callable[..., object], *what: object) -> str | None:
    try:
        read(*what)
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
