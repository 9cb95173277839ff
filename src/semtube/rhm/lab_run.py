"""A network's training run in a folder of its own: begun, or gone on with, or done already."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch

from semtube.errors import UserError
from semtube.rhm.network_settings import NetworkSettings
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl


class Training(Protocol):
    """A network under training, as `run_training` drives it.

    Attributes:
        metrics: one line for every evaluation so far.
    """

    metrics: list[dict[str, Any]]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left but the result."""
        ...

    def advance(self) -> None:
        """Go on to the next point at which the run is to be saved."""

    def state(self) -> dict[str, Any]:
        """All that the rest depends on, beside the metrics."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state, which holds the metrics too."""

    def result(self) -> dict[str, Any]:
        """What result.json is to hold."""
        ...


def run_training(
    learner: str,
    settings: NetworkSettings,
    begin: Callable[[torch.device], Training],
    folder: str | Path,
    on_progress: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """Train, measure, and store; or go on where the folder stands; or return what it holds.

    Args:
        learner: "slc" or "data2vec", part of what names the run.
        settings: of the run.
        begin: the training at its start.
        folder: of this run alone, see `LabRun`.
        on_progress: told every line of metrics, after it was stored.

    Returns:
        What result.json holds.

    Raises:
        UserError: the folder holds something else or is damaged; the sizes do not fit in memory;
            the training diverged.
    """
    run = LabRun(folder, {"learner": learner, **asdict(settings)})
    if run.result is not None:
        return run.result
    device = choose_device()
    on_gpu = device.type == "cuda"
    settings.check_fits(torch.cuda.get_device_properties(device).total_memory if on_gpu else None)
    training = begin(device)  # may refuse too: nothing is written before
    run.begin()
    state = run.load(device)
    if state is not None:
        training.restore(state)
    while not training.is_done:
        num_told = len(training.metrics)
        training.advance()
        run.save(training.state(), training.metrics)
        for line in training.metrics[num_told:]:
            on_progress(line)
    return run.finish(training.result())


class LabRun:
    """The files of one run.

    config.json            the settings, written first
    metrics.jsonl          one line for every evaluation
    checkpoints/state.pt   what to go on from; gone when the run is done
    result.json            written last: the run is done

    Args:
        folder: of this run alone; `begin` makes it if it is not there.
        settings: plain values.

    Raises:
        UserError: the folder holds something else, or a run with other settings.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self._files = RunFolder(folder)
        self._state = self._files.checkpoints / "state.pt"
        self._settings = settings = json.loads(json.dumps(settings))
        path = self._files.path
        if self._files.config.is_file():
            stored = self._files.read_config()
            if stored != settings:
                names = [k for k in {**stored, **settings} if stored.get(k) != settings.get(k)]
                raise UserError(
                    f"output {str(path)!r} holds a run with another {', '.join(sorted(names))}: "
                    "choose another output"
                )
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"output {str(path)!r} holds other files: choose another output")

    def begin(self) -> None:
        """Make the folder and write the settings, if that is not done."""
        path = self._files.path
        try:
            self._files.checkpoints.mkdir(parents=True, exist_ok=True)
            if not self._files.config.is_file():
                write_json(self._files.config, self._settings)
        except OSError as error:
            raise UserError(f"output {str(path)!r} cannot be written ({error.strerror})") from error

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run found."""
        return read_json(self._files.result) if self._files.is_done else None

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The state last saved, if any.

        Raises:
            UserError: the file is damaged.
        """
        if not self._state.is_file():
            return None
        try:
            return torch.load(self._state, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{self._state} is damaged: delete it to train anew") from error

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
