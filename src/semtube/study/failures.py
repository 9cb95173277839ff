"""Why a run stopped: an error as one sentence, kept in the run's folder."""

from __future__ import annotations

import contextlib
import shlex
import shutil

from semtube.errors import UserError
from semtube.run_folder import RunFolder, WriteError, write_json

#: Free bytes below which an error without a reason is put down to a full disk.
FULL_BELOW = 50_000_000


def as_user_error(error: Exception, folder: RunFolder) -> Exception:
    """What a disk refused, in its several disguises, as WriteError; any other error as it is."""
    is_full = shutil.disk_usage(folder.path).free < FULL_BELOW
    # Libraries written in Rust say "(os error 28)"; torch raises a RuntimeError without a reason.
    if not (
        isinstance(error, OSError | WriteError)
        or "(os error " in str(error)
        or (is_full and isinstance(error, RuntimeError))
    ):
        return error
    from semtube.training.host import newest_checkpoint  # loads torch

    cause = error.__cause__ if isinstance(error, WriteError) else error
    reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
    kept = newest_checkpoint(folder.checkpoints)  # half-written ones are removed
    state = f"the checkpoint of step {kept.step:,} is kept" if kept else "no checkpoint yet"
    return WriteError(
        f"output {str(folder.path)!r} cannot be written ({reason}); {state}",
        f": make room, then semtube train --resume {shlex.quote(str(folder.path))}",
    )


def sentence_of(error: Exception) -> str:
    """An error on one line; of one that nobody expected also its kind."""
    if isinstance(error, WriteError):
        return error.sentence
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def keep_failure(folder: RunFolder, error: Exception) -> None:
    """Write failure.json, unless the disk is too full for that."""
    with contextlib.suppress(OSError, WriteError):
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.failure, {"error": sentence_of(error), "kind": type(error).__name__})
