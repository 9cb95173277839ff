"""What a run has stored, read whole: the one place that says which of its files are damaged.

A study sets such a run aside and does it again; a study's report names it and leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.evaluation.compare import FIELDS, Record, read_records
from semtube.run_folder import RunFolder, read_json


@dataclass(frozen=True)
class StoredRun:
    """The files of a run, each empty where there is none.

    Args:
        environments: one for every start.
        log: the lines of metrics.jsonl.
        failure: None where nothing failed.
        result: None where the run is not done.
    """

    config: dict[str, Any]
    environments: list[dict[str, Any]]
    log: list[dict[str, Any]]
    failure: dict[str, Any] | None
    result: dict[str, Any] | None


@dataclass(frozen=True)
class StoredReading:
    """The scores of a decoded split.

    Args:
        records: a row each, in file order.
        right: int8 (rows,), by the score asked for: 1 right, 0 wrong, -1 not judged.
    """

    metrics: dict[str, Any]
    records: Sequence[Record]
    right: np.ndarray


def read_run(folder: RunFolder) -> StoredRun:
    """All files of a run that are JSON; a last line of its log that a kill cut off is left out.

    Raises:
        UserError: one is damaged, or holds another kind of value.
    """
    if folder.identity.exists():
        read_object(folder.identity)
    return StoredRun(
        config=read_object(folder.config) if folder.config.exists() else {},
        environments=_environments(folder.environment) if folder.environment.exists() else [],
        log=_log(folder.metrics) if folder.metrics.exists() else [],
        failure=read_object(folder.failure) if folder.failure.exists() else None,
        result=read_object(folder.result) if folder.result.exists() else None,
    )


def read_reading(path: Path, score: str) -> StoredReading:
    """A decoded split: `metrics.json` and `examples.jsonl` of a folder.

    Raises:
        UserError: one is missing or damaged, or has no such score.
    """
    metrics = read_object(path / "metrics.json")
    if not isinstance(metrics.get(score), dict):
        raise UserError(f"{path / 'metrics.json'}: has no score {score!r}")
    return StoredReading(metrics, *read_scored(path / "examples.jsonl", score))


_CODES = {True: 1, False: 0, None: -1}


def read_scored(path: Path, score: str) -> tuple[Sequence[Record], np.ndarray]:
    """Records, and how each was judged, as in StoredReading.

    Raises:
        UserError: missing or damaged, no such score, or no row that was judged by it.
    """
    records = _records(path)
    try:
        right = np.array([_CODES[record[score]] for record in records], dtype=np.int8)
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no score {score!r} with true, false or null") from None
    if not (right >= 0).any():
        raise UserError(f"{path}: no row was judged by {score!r}")
    return records, right


def read_object(path: Path) -> dict[str, Any]:
    """A stored JSON object.

    Raises:
        UserError: the file is missing or damaged, or holds another kind of value.
    """
    return _of_kind(path, read_json(path), dict, "object")


def _of_kind(path: Path, value: Any, kind: type, word: str) -> Any:
    if not isinstance(value, kind):
        raise UserError(f"{path}: wanted a JSON {word}, got {type(value).__name__}")
    return value


def _environments(path: Path) -> list[dict[str, Any]]:
    starts = _of_kind(path, read_json(path), list, "array")
    return [_of_kind(path, start, dict, "object") for start in starts]


def _records(path: Path) -> Sequence[Record]:
    """As `read_records`, which names what is wrong, and several times as fast where nothing is."""
    try:
        records = _json_lines(path.read_bytes().splitlines())
    except (OSError, ValueError):
        return read_records(path)
    is_whole = {type(record) for record in records} == {dict} and all(
        {type(record.get(name)) for record in records} == {kind} for name, kind in FIELDS.items()
    )
    return records if is_whole else read_records(path)


def _json_lines(lines: Sequence[bytes]) -> list[Any]:
    """One JSON value a line, parsed together; an error says nothing of its line."""
    values = json.loads(b"[" + b",".join(lines) + b"]")
    if len(values) != len(lines):
        raise ValueError("wanted one value a line")
    return values


def _log(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    values: list[Any] = []
    try:
        values = _json_lines(lines)
    except ValueError:
        for number, line in enumerate(lines, start=1):
            try:
                values.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    raise UserError(f"{path}:{number}: not JSON ({error})") from None
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict) or type(value.get("step")) not in (int, float):
            raise UserError(f"{path}:{number}: no line of metrics: it has no step")
    return values
