"""A study's folder read into records; a damaged file is named and costs its run alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.evaluation.compare import FIELDS, Record, read_records
from semtube.report.study_data import (
    MOST_TRACE_POINTS,
    Planned,
    Reading,
    RowScores,
    RunRecord,
    Settings,
    Status,
    StudyData,
    StudyRecord,
)
from semtube.run_folder import RunFolder, read_formatted, read_json


def read_study(folder: Path) -> StudyData:
    """Everything a report needs. A damaged file of a run costs that run alone and is named.

    Raises:
        UserError: no study here, written by a newer version, or study.json or plan.json damaged.
    """
    study, store = _read_design(folder)
    plan = _read_plan(folder / "plan.json")
    problems: list[str] = []
    choices: Mapping[str, Sequence[Settings]] = {}
    if (folder / "chosen.json").is_file():
        try:
            choices = _mapping(folder / "chosen.json")
        except UserError as error:
            problems.append(str(error))
    known: dict[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] = {}
    runs = {}
    for run in dict.fromkeys(planned.run for planned in plan):
        runs[run] = _read_run(store / run, study.primary, known)
        if runs[run].status == "damaged":
            problems.append(runs[run].cause)
    return StudyData(folder, study, plan, runs, choices, problems)


def _read_design(folder: Path) -> tuple[StudyRecord, Path]:
    path = folder / "study.json"
    values = read_formatted(path)
    store = folder / values.get("runs", "runs")
    if (store / "store.json").exists():
        read_formatted(store / "store.json")
    names = StudyRecord.__dataclass_fields__
    missing = [f.name for f in names.values() if f.default is MISSING and f.name not in values]
    if missing:
        raise UserError(f"{path}: lacks {missing[0]!r}: it is no whole study")
    study = StudyRecord(**{name: values[name] for name in names if name in values})
    for name, arm in (("baseline", study.baseline), ("deciding", study.deciding.get("arm"))):
        if arm not in study.arms:
            raise UserError(f"{path}: {name} names arm {arm!r}, which is not among its arms")
    return study, store


def _mapping(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: wanted a JSON object, got {type(values).__name__}")
    return values


def _read_plan(path: Path) -> list[Planned]:
    found = []
    for number, line in enumerate(_mapping(path).get("runs", [])):
        try:
            fields = {name: line[name] for name in Planned.__dataclass_fields__}
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: run {number} is no planned run (lacks {error})") from None
        found.append(Planned(**fields | {"read": tuple(fields["read"])}))
    return found


def _read_run(path: Path, primary: str, known: dict[Any, Any]) -> RunRecord:
    """One run; `known` lets runs on the same rows share them."""
    folder = RunFolder(path)
    if not path.is_dir():
        return RunRecord(path.name, path, "unfinished", "not begun")
    try:
        config = _mapping(folder.config) if folder.config.exists() else {}
        environments = read_json(folder.environment) if folder.environment.exists() else []
        trace = _read_trace(folder.metrics)
        known_so_far = {"config": config, "environments": environments, "trace": trace}
        if not folder.is_done:
            return RunRecord(path.name, path, *_why_not_done(folder, trace), **known_so_far)
        result = _mapping(folder.result)
        readings = {
            split.name: _read_reading(split, primary, known)
            for split in sorted(folder.readings.glob("*/"))
            if (split / "metrics.json").exists()
        }
    except UserError as error:
        return RunRecord(path.name, path, "damaged", str(error))
    return RunRecord(path.name, path, "done", "", result=result, readings=readings, **known_so_far)


def _why_not_done(folder: RunFolder, trace: Mapping[str, Any]) -> tuple[Status, str]:
    if folder.failure.exists():
        failure = _mapping(folder.failure)
        return "failed", str(failure.get("error", "no cause was kept"))
    return "unfinished", "begun, not done" if trace else "begun, no step done"


def _read_reading(path: Path, primary: str, known: dict[Any, Any]) -> Reading:
    metrics = _mapping(path / "metrics.json")
    reads = path / "reads.jsonl"
    num_reads = len(reads.read_bytes().splitlines()) if reads.exists() else 1
    return Reading(metrics, _row_scores(path / "examples.jsonl", primary, known), num_reads)


_CODES = {True: 1, False: 0, None: -1}


def _row_scores(path: Path, primary: str, known: dict[Any, Any]) -> RowScores:
    records = _records(path)
    try:
        right = np.array([_CODES[record[primary]] for record in records], dtype=np.int8)
    except (KeyError, TypeError):
        raise UserError(f"{path}: has no score {primary!r} with true, false or null") from None
    if not (right >= 0).any():
        raise UserError(f"{path}: no row was judged by {primary!r}")
    seen: Counter[str] = Counter()
    rows = []
    for record in records:
        rows.append((record["id"], seen[record["id"]]))
        seen[record["id"]] += 1
    groups = tuple(None if (g := r.get("group")) is None else str(g) for r in records)
    return RowScores(known.setdefault(t := tuple(rows), t), right, known.setdefault(groups, groups))


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


def _read_trace(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Losses by step; a last line that a kill cut off is no damage."""
    if not path.exists():
        return {}
    found: dict[str, tuple[list[float], list[float]]] = {}
    for values in _metrics(path):
        for name in ("loss", "term_loss"):
            if isinstance(value := values.get(name), int | float) and math.isfinite(value):
                steps, all_values = found.setdefault(name, ([], []))
                steps.append(values["step"])
                all_values.append(value)
    return {name: thinned(*series) for name, series in found.items()}


def _metrics(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().splitlines()
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


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means over at most MOST_TRACE_POINTS stretches of as many values each."""
    parts = min(len(steps), MOST_TRACE_POINTS)
    cuts = np.linspace(0, len(steps), parts + 1).round().astype(int)
    counts = np.diff(cuts)
    means = [np.add.reduceat(np.asarray(x, float), cuts[:-1]) / counts for x in (steps, values)]
    return means[0].tolist(), means[1].tolist()
