"""A task's files on this machine: where they lie, and whether they are whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

DATA_VARIABLE = "SEMTUBE_DATA"
CACHE_VARIABLE = "SEMTUBE_CACHE"


class RemoteFile(Protocol):
    """What must be known of a file: `semtube.tasks.task.DataFile` is one."""

    @property
    def path(self) -> str:
        """Under the data folder, with slashes."""
        ...

    @property
    def sha256(self) -> str:
        """Of its bytes, in hex."""
        ...

    @property
    def num_bytes(self) -> int:
        """Its size."""
        ...

    @property
    def url(self) -> str | None:
        """The original source, if it offers this file."""
        ...


@dataclass(frozen=True)
class Place:
    """A data folder, and who named it: `folder`, `SEMTUBE_DATA` or `cache`."""

    path: Path
    named_by: str


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be used.

    Args:
        path: under the data folder.
        kind: it is not there, or it is not what it should be.
        reason: what was found and what was expected.
    """

    path: str
    kind: Literal["missing", "damaged"]
    reason: str

    def sentence(self) -> str:
        """File, kind and reason."""
        return f"{self.path} is {self.kind} ({self.reason})"


def cache_folder() -> Path:
    """`data` in the folder that SEMTUBE_CACHE names, else in `semtube` in the user's cache.

    Source: XDG Base Directory Specification; a relative XDG_CACHE_HOME does not count.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser() / "data"
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():
        caches = Path.home() / ".cache"
    return caches / "semtube" / "data"


def data_place(folder: Path | None = None) -> Place:
    """The given folder, else the one that SEMTUBE_DATA names, else the cache."""
    if folder is not None:
        return Place(folder.expanduser(), "data_folder")
    if named := os.environ.get(DATA_VARIABLE):
        return Place(Path(named).expanduser(), DATA_VARIABLE)
    return Place(cache_folder(), "cache")


def problem_of(file: RemoteFile, folder: Path) -> Problem | None:
    """What is wrong with one file of a folder, by size and sha256."""
    path = folder / file.path
    try:
        wrong = difference(path, file)
    except FileNotFoundError:
        return Problem(file.path, "missing", f"{file.num_bytes:,} bytes expected")
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    return Problem(file.path, "damaged", wrong) if wrong else None


def verify(files: Sequence[RemoteFile], folder: Path) -> list[Problem]:
    """What is wrong with the files of a folder; empty if nothing is."""
    return [problem for file in files if (problem := problem_of(file, folder))]


def difference(path: Path, file: RemoteFile) -> str:
    """How a file on disk differs from what is known of it; empty if it does not."""
    size = path.stat().st_size
    if size != file.num_bytes:
        return f"it has {size:,} bytes, {file.num_bytes:,} expected"
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    return "" if found == file.sha256 else f"its sha256 is {found}, {file.sha256} expected"


def check_path(path: str) -> None:
    """Make sure that a path stays under the folder it is joined to.

    Raises:
        ValueError: it is absolute, empty, goes up, or is of another system's form.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or re.search(r"[\\:\0]", path):
        raise ValueError(f"path must lead into the data folder, got {path!r}")
