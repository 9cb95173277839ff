"""Runs of studies on disk, each under its id; damaged files are set aside, never trusted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from semtube.errors import UserError
from semtube.run_folder import RunFolder, WriteError, read_json, write_json, writing

#: Version of how a study and its runs are stored.
FORMAT = 1


class Store:
    """The runs of one study or of several.

    ID/               a RunFolder
    .locks/ID.lock    held by the process that works on it, and free when that process ends
    ID.damaged-N/     set aside: a file of it could not be read
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
        check_format(stored)

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

    def set_aside_damage(self, run: str) -> str | None:
        """Move a run out of the way if one of its files cannot be read; says so.

        Only for the process that holds the run.
        """
        folder = self.folder(run)
        for path in (folder.config, folder.identity, folder.environment, folder.result):
            problem = _problem(path)
            if problem is not None:
                number = 1
                while (aside := self.path / f"{run}.damaged-{number}").exists():
                    number += 1
                with writing(aside):
                    folder.path.rename(aside)
                return f"{problem}: set aside as {aside.name}, the run is done again"
        return None

    def is_read(self, run: str, split: str) -> bool:
        """Whether a run is done and has decoded a split."""
        folder = self.folder(run)
        metrics = folder.readings / split / "metrics.json"
        return _is_whole(folder.result) and _is_whole(metrics)

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


def check_format(path: Path) -> dict[str, Any]:
    """The stored values of a study or store that this version can read.

    Raises:
        UserError: written by a newer version, or damaged.
    """
    values = read_json(path)
    found = values.get("format") if isinstance(values, dict) else None
    if not isinstance(found, int):
        raise UserError(f"{path}: holds no format number: it is no study of semtube")
    if found > FORMAT:
        raise UserError(
            f"{path}: written by a newer semtube (format {found}, this one reads {FORMAT}): "
            "upgrade semtube, or choose another folder"
        )
    return values


def _problem(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        read_json(path)
    except UserError as error:
        return str(error)
    return None


def _is_whole(path: Path) -> bool:
    return path.exists() and _problem(path) is None
