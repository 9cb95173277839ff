"""A run on disk: a folder of plain files; `result.json`, written last, means done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from semtube.errors import UserError

#: Version of how a study and its runs are stored.
FORMAT = 1


class WriteError(UserError):
    """The disk is full or refuses a write; what was written before is whole, to go on from.

    Args:
        sentence: what and why.
        advice: what to do, where that is known; behind the sentence.
    """

    def __init__(self, sentence: str, advice: str = "") -> None:
        super().__init__(sentence + advice)
        self.sentence = sentence


@contextlib.contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Around what writes: the system's refusal becomes one sentence.

    Raises:
        WriteError: naming `what` and the reason.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(f"{what} cannot be written ({error.strerror or error})") from error


class RunFolder:
    """Where a run keeps its files.

    config.json       the settings
    identity.json     run id and the data's fingerprints
    environment.json  versions, device, commit of each start
    metrics.jsonl     one line per log: step, losses, gradient norm, learning rate
    checkpoints/      the newest one, to resume from
    model/            final weights and tokenizer
    examples.jsonl    one line per test row: prediction and scores
    result.json       written last: the run is done
    failure.json      why a run stopped, if it failed
    readings/         splits decoded later, by a study: metrics.json (last) and examples.jsonl
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.identity = self.path / "identity.json"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.examples = self.path / "examples.jsonl"
        self.result = self.path / "result.json"
        self.failure = self.path / "failure.json"
        self.readings = self.path / "readings"

    @property
    def is_done(self) -> bool:
        """Whether the run has its result."""
        return self.result.is_file()

    def check_free(self) -> None:
        """Make sure that a run may begin here.

        Raises:
            UserError: the folder holds something already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            if self.is_done:
                what = "a finished run: choose another output"
            elif self.config.is_file():
                what = f"an unfinished run: go on with `semtube train --resume {self.path}`, or "
                what += "choose another output"
            else:
                what = "other files: choose another output"
            raise UserError(f"output {str(self.path)!r} holds {what}")

    def begin(self, config: dict[str, Any], identity: dict[str, Any]) -> None:
        """Make the folder and store the settings and the identity.

        Raises:
            UserError: the folder holds something already.
            WriteError: nothing of it is left then.
        """
        self.check_free()
        try:
            with writing(f"output {str(self.path)!r}"):
                self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.config, config)
            write_json(self.identity, identity)
        except WriteError:
            with contextlib.suppress(OSError):
                self.config.unlink(missing_ok=True)
                self.path.rmdir()
            raise

    def remove_parts(self) -> None:
        """Remove what a killed process has left half-written; only for who holds the run."""
        with writing(f"output {str(self.path)!r}"):
            for part in [*self.path.rglob(".*.part")]:
                if part.is_dir():
                    shutil.rmtree(part)
                else:
                    part.unlink(missing_ok=True)

    def add_environment(self, environment: dict[str, Any]) -> None:
        """Note what this start of the run runs on."""
        before = read_json(self.environment) if self.environment.exists() else []
        write_json(self.environment, [*before, environment])

    def read_config(self) -> dict[str, Any]:
        """The stored settings.

        Raises:
            UserError: the folder holds no run.
        """
        if not self.config.is_file():
            raise UserError(f"{str(self.path)!r} holds no run (no config.json)")
        return read_json(self.config)


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all, see `write_bytes`."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON value a line, written whole or not at all, see `write_bytes`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write whole or not at all: a temporary file beside it, then an atomic rename.

    Raises:
        WriteError: as on a full disk; the old file, if any, is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_formatted(path: Path) -> dict[str, Any]:
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


def read_json(path: Path) -> Any:
    """A stored JSON value.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
