"""A study's folder read into records; a damaged file is named and costs its run alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.evaluation.stored_runs import StoredRun, read_object, read_reading, read_run
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
from semtube.run_folder import RunFolder, read_formatted


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
            choices = read_object(folder / "chosen.json")
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


def _read_plan(path: Path) -> list[Planned]:
    found = []
    for number, line in enumerate(read_object(path).get("runs", [])):
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
        stored = read_run(folder)
        readings = {
            split.name: _read_reading(split, primary, known)
            for split in sorted(folder.readings.glob("*/"))
            if stored.result is not None and (split / "metrics.json").exists()
        }
    except UserError as error:
        return RunRecord(path.name, path, "damaged", str(error))
    trace = _trace(stored.log)
    status, cause = _status(stored, has_steps=bool(trace))
    return RunRecord(
        path.name,
        path,
        status,
        cause,
        config=stored.config,
        result=stored.result or {},
        environments=stored.environments,
        trace=trace,
        readings=readings,
    )


def _status(stored: StoredRun, *, has_steps: bool) -> tuple[Status, str]:
    """What became of a run, and why; of a done one the cause is that of a failed decoding."""
    cause = ""
    if stored.failure is not None:
        cause = str(stored.failure.get("error", "no cause was kept"))
    if stored.result is not None:
        return "done", cause
    if stored.failure is not None:
        return "failed", cause
    return "unfinished", "begun, not done" if has_steps else "begun, no step done"


def _read_reading(path: Path, primary: str, known: dict[Any, Any]) -> Reading:
    stored = read_reading(path, primary)
    reads = path / "reads.jsonl"
    num_reads = len(reads.read_bytes().splitlines()) if reads.exists() else 1
    seen: Counter[str] = Counter()
    rows = []
    for record in stored.records:
        rows.append((record["id"], seen[record["id"]]))
        seen[record["id"]] += 1
    groups = tuple(None if (g := r.get("group")) is None else str(g) for r in stored.records)
    shared_rows, groups = known.setdefault(t := tuple(rows), t), known.setdefault(groups, groups)
    return Reading(stored.metrics, RowScores(shared_rows, stored.right, groups), num_reads)


def _trace(log: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Losses by step."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for values in log:
        for name in ("loss", "term_loss"):
            if isinstance(value := values.get(name), int | float) and math.isfinite(value):
                steps, all_values = found.setdefault(name, ([], []))
                steps.append(values["step"])
                all_values.append(value)
    return {name: thinned(*series) for name, series in found.items()}


def thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means over at most MOST_TRACE_POINTS stretches of as many values each."""
    parts = min(len(steps), MOST_TRACE_POINTS)
    cuts = np.linspace(0, len(steps), parts + 1).round().astype(int)
    counts = np.diff(cuts)
    means = [np.add.reduceat(np.asarray(x, float), cuts[:-1]) / counts for x in (steps, values)]
    return means[0].tolist(), means[1].tolist()
