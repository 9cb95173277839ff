"""A network's training run in a folder of its own: begun, or gone on with, or done already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from semtube.errors import UserError
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl


class LabRun:
    """The files of one run.

    config.json            the settings, written first
    metrics.jsonl          one line for every evaluation
    checkpoints/state.pt   what to go on from; gone when the run is done
    result.json            written last: the run is done

    Args:
        folder: of this run alone; made if it is not there.
        settings: plain values.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self._files = RunFolder(folder)
        self._state = self._files.checkpoints / "state.pt"
        settings = json.loads(json.dumps(settings))
        path = self._files.path
        if self._files.config.is_file():
            stored = self._files.read_config()
            if stored != settings:
                names = [k for k in {**stored, **settings} if stored.get(k) != settings.get(k)]
                raise UserError(
                    f"output {str(path)!r} holds a run with another {', '.join(sorted(names))}: "
                    "choose another output"
                )
            return
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"output {str(path)!r} holds other files: choose another output")
        try:
            self._files.checkpoints.mkdir(parents=True)
            write_json(self._files.config, settings)
        except OSError as error:
            raise UserError(f"output {str(path)!r} cannot be written ({error.strerror})") from error

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run found."""
        return read_json(self._files.result) if self._files.is_done else None

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The state last saved, if any."""
        if not self._state.is_file():
            return None
        return torch.load(self._state, map_location=device, weights_only=True)

    def save(self, state: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        """Keep the state and all lines of metrics so far; the state has the lines too."""
        part = self._state.with_name(f".{self._state.name}.{os.getpid()}.part")
        try:
            torch.save({**state, "metrics": metrics}, part)
            part.replace(self._state)
        finally:
            part.unlink(missing_ok=True)
        write_jsonl(self._files.metrics, metrics)

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Store the result; the state is not needed any more."""
        write_json(self._files.result, result)
        self._state.unlink(missing_ok=True)
        return result


def choose_device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
