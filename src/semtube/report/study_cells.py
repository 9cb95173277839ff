"""The cells of a study: an arm at a point, over its seeds; and two arms' rows side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.report.marks import Spec, choice
from semtube.report.study_data import (
    Place,
    Planned,
    RowScores,
    RunRecord,
    StudyData,
    place_of,
)
from semtube.statistics.cells import summarise_cell
from semtube.statistics.intervals import Interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cell:
    """One arm at one point, over the seeds whose final runs are scored.

    Args:
        scores: the primary score of each seed, a mean over judged test rows.
        num_missing: planned seeds without a score: failed, damaged or not done.
        interval: Student's, of the mean over seeds; None with fewer than two seeds or equal
            scores, and `withheld` says why.
        metrics: name -> mean over seeds of a metric of the test rows.
    """

    arm: str
    place: Place
    seeds: tuple[Any, ...]
    scores: tuple[float, ...]
    num_missing: int
    mean: float | None
    deviation: float | None
    interval: Interval | None
    withheld: str
    chosen: Mapping[str, Any]
    metrics: Mapping[str, float]
    num_examples: float | None
    seconds_per_step: float | None


def study_cells(data: StudyData) -> list[Cell]:
    """Every cell that the plan has final runs in, also those without one that is scored."""
    planned = [(p.arm, p.place) for p in data.finals()]
    places = data.places()
    wanted = dict.fromkeys(planned)
    return [
        _cell(data, arm, place, planned.count((arm, place)))
        for place in places
        for arm in data.study.arms
        if (arm, place) in wanted
    ]


def _cell(data: StudyData, arm: str, place: Place, num_planned: int) -> Cell:
    runs = data.final(arm, place)
    records = [data.runs[p.run] for p in runs]
    scores = tuple(score_on_test(record) for record in records)
    summary = summarise_cell(scores, CONFIDENCE) if scores else None
    tried = {repr(sorted(p.tried.items())): dict(p.tried) for p in runs}
    return Cell(
        arm=arm,
        place=place,
        seeds=tuple(p.seed for p in runs),
        scores=scores,
        num_missing=num_planned - len(runs),
        mean=summary.mean if summary else None,
        deviation=summary.deviation if summary else None,
        interval=summary.interval if summary else None,
        withheld=summary.withheld if summary else "no run with a score",
        chosen=next(iter(tried.values())) if len(tried) == 1 else {},
        metrics=_mean_metrics(records),
        num_examples=_mean([r.result.get("num_train_examples") for r in records]),
        seconds_per_step=_mean([r.seconds_per_step for r in records]),
    )


def score_on_test(record: RunRecord) -> float:
    """The share of judged test rows that a run has right."""
    values = record.readings["test"].rows.right
    judged = values[values >= 0]
    return float(judged.mean())


def _mean_metrics(records: Sequence[RunRecord]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in records:
        for name, metric in record.readings["test"].metrics.items():
            value = metric.get("mean") if isinstance(metric, Mapping) else None
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Paired:
    """Two arms on the same seeds and the same test rows.

    Args:
        a, b: (seeds, rows) in [0, 1]; means over points where several are compared at once.
        num_unjudged: rows that some run could not judge, left out.
    """

    arm_a: str
    arm_b: str
    places: tuple[Place, ...]
    seeds: tuple[Any, ...]
    a: np.ndarray
    b: np.ndarray
    num_unjudged: int


def paired(data: StudyData, arm_a: str, arm_b: str, places: Sequence[Place]) -> Paired | None:
    """The arms' primary scores by seed and row; None where no seed is scored in both everywhere.

    Raises:
        UserError: runs were not scored on the same test rows.
    """
    cells: list[dict[Any, Planned]] = [
        {p.seed: p for p in data.final(arm, place)} for place in places for arm in (arm_a, arm_b)
    ]
    if not cells:
        return None
    seeds = tuple(seed for seed in cells[0] if all(seed in cell for cell in cells))
    if not seeds:
        return None
    runs = [[data.runs[cell[seed].run] for seed in seeds] for cell in cells]
    matrix = _aligned([r for cell in runs for r in cell])
    is_judged = (matrix >= 0).all(axis=0)
    if not is_judged.any():
        return None
    shaped = matrix[:, is_judged].astype(float).reshape(len(places), 2, len(seeds), -1)
    a, b = shaped.mean(axis=0)
    return Paired(arm_a, arm_b, tuple(places), seeds, a, b, int((~is_judged).sum()))


def _aligned(records: Sequence[RunRecord]) -> np.ndarray:
    """int8 (runs, rows), in the row order of the first run."""
    first: RowScores = records[0].readings["test"].rows
    lines = []
    for record in records:
        here = record.readings["test"].rows
        if here.rows is first.rows:
            lines.append(here.right)
            continue
        index = {row: number for number, row in enumerate(here.rows)}
        if index.keys() != set(first.rows):
            raise UserError(
                f"runs {records[0].run} and {record.run} were not scored on the same test rows: "
                f"{len(index.keys() ^ set(first.rows))} rows have no partner"
            )
        lines.append(here.right[[index[row] for row in first.rows]])
    return np.stack(lines)


def matching(data: StudyData, at: Mapping[str, Any]) -> list[Place]:
    """The points that have these values on these axes; all of them for no values."""
    wanted = set(place_of(at))
    return [place for place in data.places() if wanted <= set(place)]


def place_name(place: Place) -> str:
    """A point as a reader sees it."""
    return ", ".join(f"{axis} {shown(value)}" for axis, value in place) or "the only point"


def shown(value: Any) -> str:
    """A setting's value; numbers as short as they are told apart by."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_settings(settings: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in settings.items()) or "-"


def point_choice(places: Sequence[Place], first: Place | None) -> tuple[list[Spec], list[Spec]]:
    """A list of the points to choose from, where there are several; `first` stands first."""
    names = list(dict.fromkeys(place_name(place) for place in places))
    if len(names) < 2:
        return [], []
    if first is not None and (name := place_name(first)) in names:
        names = [name, *(other for other in names if other != name)]
    return [choice("point_shown", "at", names)], [{"filter": "datum.point === point_shown"}]
