"""How a task's files come here, verified.

`locate` looks in a folder the user gives, else in the one that SEMTUBE_DATA names, else in the
cache, into which it fetches what is not there. Every file is checked against its size and sha256.

The client is huggingface_hub's session (httpx), which transformers brings along: redirects,
timeouts, proxies and offline mode are as for models. No download function at hand does the rest:
pooch checks and moves but begins anew after an interruption; huggingface_hub's own goes on in steps
of 10 MB, more than any of these files has. So the kept part, its continuation (HTTP Range), the
check and the atomic move are here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from semtube.data.data_files import (
    RemoteFile,
    check_path,
    data_place,
    difference,
    problem_of,
    verify,
)
from semtube.errors import UserError

_TIMEOUT_SECONDS = 30.0
_TRIES = 3
_PAUSE_SECONDS = 1.0
#: Called with a file's path and how many of its bytes are here.
OnProgress = Callable[[str, int], None]
_HUB = re.compile(r"hf://datasets/(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?/?")


class _InterruptedError(UserError):
    """Data stopped coming: what came is kept."""


def locate(
    files: Sequence[RemoteFile],
    folder: Path | None = None,
    *,
    mirror: str | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """The data folder in which these files lie, verified. Only the cache is ever written to.

    Args:
        folder: looked at alone, if given; see `data_place`.
        mirror: as in `fetch`.

    Raises:
        UserError: a file of a named folder is missing or damaged, or could not be fetched.
    """
    place = data_place(folder)
    problems = verify(files, place.path)
    if problems and place.named_by != "cache":
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UserError(
            f"data folder {str(place.path)!r} (named by {place.named_by}): "
            f"{problems[0].sentence()}{more}; "
            "`semtube data get NAME --output FOLDER` fetches what a folder lacks"
        )
    if problems:
        fetch(files, place.path, mirror=mirror, on_progress=on_progress)
    return place.path


def fetch(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    mirror: str | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Bring every file that is missing or damaged into a folder, verified.

    A file appears whole or not at all; an old one stays until the new one is verified. What an
    interrupted transfer leaves is kept in `.NAME.SHA.part` and gone on with next time. Processes
    that fetch into one folder wait for each other.

    Args:
        mirror: instead of the original sources a folder, or the address (http, https) of one, that
            holds the same paths; or a dataset of the Hugging Face hub, `hf://datasets/OWNER/NAME`
            with `@REVISION` behind it if wanted.

    Raises:
        UserError: no source, no connection, a wrong size or checksum, or a folder that cannot be
            written, say because the disk is full.
        ValueError: a path that leads out of the folder, or an address that is not http(s).
    """
    for file in files:
        check_path(file.path)
    report = on_progress or (lambda path, num_bytes: None)
    lacking = {problem.path for problem in verify(files, folder)}
    for file in files:
        if file.path not in lacking:
            report(file.path, file.num_bytes)
    if not lacking:
        return
    sources = [(file, _source(file, mirror)) for file in files if file.path in lacking]
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".fetching.lock").acquire()
    except OSError as error:
        raise UserError(
            f"data folder {str(folder)!r}: cannot be written ({error.strerror})"
        ) from error
    with lock:
        for file, source in sources:
            if problem_of(file, folder):  # still: another process may have fetched it
                _fetch_one(file, folder, source, report)
            report(file.path, file.num_bytes)


def _source(file: RemoteFile, mirror: str | None) -> Path | str:
    """A file to copy, or an address.

    Raises:
        UserError: there is none, or the mirror is none.
        ValueError: an address that is not http(s).
    """
    if mirror == "":
        raise UserError("mirror is empty: give a folder or an address")
    if mirror is None:
        if file.url is None:
            raise UserError(
                f"{file.path}: its source offers no such file to fetch: "
                "give a folder that holds it, or a mirror"
            )
        if urlsplit(file.url).scheme not in ("http", "https"):
            raise ValueError(f"url must begin with http:// or https://, got {file.url!r}")
        return file.url
    if mirror.startswith("hf://"):
        return _hub_address(file.path, mirror)
    if mirror.startswith(("http://", "https://")):
        return f"{mirror.rstrip('/')}/{quote(file.path)}"
    if "://" in mirror:
        raise UserError(
            f"mirror is {mirror!r}: give a folder, an address that begins with http:// or "
            "https://, or hf://datasets/OWNER/NAME"
        )
    if not Path(mirror).is_dir():
        raise UserError(f"mirror {mirror!r}: no such folder")
    return Path(mirror) / file.path


def _hub_address(path: str, mirror: str) -> str:
    from huggingface_hub import hf_hub_url

    found = _HUB.fullmatch(mirror)
    if found is None:
        raise UserError(f"mirror is {mirror!r}: give hf://datasets/OWNER/NAME or ...NAME@REVISION")
    return hf_hub_url(found["name"], path, repo_type="dataset", revision=found["revision"])


def _fetch_one(file: RemoteFile, folder: Path, source: Path | str, report: OnProgress) -> None:
    target = folder / file.path
    part = target.with_name(f".{target.name}.{file.sha256[:12]}.part")
    keep_part = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path) or (part.exists() and part.stat().st_size > file.num_bytes):
            part.unlink(missing_ok=True)
        with _PartFile(part, file, report) as output:
            if isinstance(source, Path):
                _copy(source, output)
            elif output.tell() < file.num_bytes:
                _download(source, output)
            output.flush()
            os.fsync(output.fileno())
        if wrong := difference(part, file):
            raise UserError(f"{source}: {wrong}; it was not kept")
        part.replace(target)
    except _InterruptedError:
        keep_part = part.stat().st_size > 0
        raise
    except KeyboardInterrupt:
        keep_part = True
        raise
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{target}: cannot be written ({reason}); nothing was changed") from error
    finally:
        if not keep_part:
            with contextlib.suppress(OSError):
                part.unlink()


class _PartFile(io.BufferedWriter):
    """What has come of a file; more than its size is not taken."""

    def __init__(self, path: Path, file: RemoteFile, report: OnProgress) -> None:
        super().__init__(io.FileIO(path, "a"))
        self._file = file
        self._report = report

    def write(self, chunk: Any, /) -> int:
        """Append."""
        if self.tell() + len(chunk) > self._file.num_bytes:
            raise UserError(
                f"{self._file.path}: more came than the {self._file.num_bytes:,} bytes expected; "
                "it was not kept"
            )
        written = super().write(chunk)
        self._report(self._file.path, self.tell())
        return written


def _copy(source: Path, output: _PartFile) -> None:
    try:
        input_file = source.open("rb")
    except OSError as error:
        raise UserError(f"mirror: {source}: cannot be read ({error.strerror})") from None
    with input_file:
        shutil.copyfileobj(input_file, output)


def _download(url: str, output: _PartFile) -> None:
    """Transfer what is lacking, in a few tries, each from where the one before stopped."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    for tries_left in reversed(range(_TRIES)):
        try:
            return _transfer(url, output)
        except (httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled) as error:
            if tries_left and isinstance(error, httpx2.TransportError):
                time.sleep(_PAUSE_SECONDS)
                continue
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise _InterruptedError(
                f"{url}: could not be fetched ({reason}); the same command goes on where it stopped"
            ) from error


def _transfer(url: str, output: _PartFile) -> None:
    from huggingface_hub import constants, get_session, get_token

    # A range of a compressed body would be bytes of another file.
    headers = {"Accept-Encoding": "identity"}
    if url.startswith(constants.ENDPOINT + "/") and (token := get_token()):
        headers["Authorization"] = f"Bearer {token}"
    if begun := output.tell():
        headers["Range"] = f"bytes={begun}-"
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
        if not response.is_success:
            # 416: the part is longer than the server's file, so it cannot be gone on with.
            kind = UserError if response.status_code == 416 else _InterruptedError
            answer = f"{response.status_code} {response.reason_phrase}".strip()
            raise kind(f"{url}: the server answered {answer}")
        if begun and response.status_code != 206:  # the server takes no ranges: all comes anew
            output.seek(0)
            output.truncate()
        for chunk in response.iter_bytes():
            output.write(chunk)
