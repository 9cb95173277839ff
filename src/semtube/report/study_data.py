"""What a report knows of a study: what was asked, planned, run, failed and scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

#: Points kept of a run's trace: more than a figure is wide in marks.
MOST_TRACE_POINTS = 100

Settings = Mapping[str, Any]
Status = Literal["done", "failed", "unfinished", "damaged"]
Place = tuple[tuple[str, Any], ...]
"""A point of the axes without its seed, sorted by axis: what, beside the arm, makes a cell."""


@dataclass(frozen=True)
class StudyRecord:
    """What study.json says: the question and the design, fixed before the first run.

    `deciding` is {"arm", "at"}; `margin` is in the unit of the primary score; `changed` holds what
    was fixed before each later change, the first one first.
    """

    name: str
    doc: str
    question: str
    hypothesis: str
    primary: str
    baseline: str
    deciding: Settings
    margin: float
    regime: str
    updates: str
    arms: Mapping[str, Settings]
    axes: Mapping[str, Sequence[Any]]
    base: Settings
    tuning: Settings | None
    # Of stores older than these fields:
    command: str = "semtube study FILE"
    changed: Sequence[Settings] = ()

    @property
    def score_title(self) -> str:
        """The primary score as a title begins with it."""
        return self.primary.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Planned:
    """One line of plan.json; a run may stand in both phases."""

    run: str
    phase: Literal["tuning", "final"]
    arm: str
    point: Settings
    tried: Settings
    read: tuple[str, ...]

    @property
    def seed(self) -> Any:
        """Its seed; 0 where seed is no axis."""
        return self.point.get("seed", 0)

    @property
    def place(self) -> Place:
        """Its point without the seed."""
        return place_of(self.point)


@dataclass(frozen=True)
class RowScores:
    """How the rows of a split were judged in one run, by the study's primary score.

    Args:
        rows: (id, occurrence of this id), in file order.
        right: int8 (rows,): 1 right, 0 wrong, -1 not judged.
        groups: the group of each row, None for none.
    """

    rows: tuple[tuple[str, int], ...]
    right: np.ndarray
    groups: tuple[str | None, ...]


@dataclass(frozen=True)
class Reading:
    """A split decoded by a run: its metrics, its rows, and how often it was decoded."""

    metrics: Settings
    rows: RowScores
    num_reads: int


@dataclass(frozen=True)
class RunRecord:
    """One run as it lies on disk.

    Args:
        cause: why it failed, is damaged or not done; of a done one why its decoding failed.
        trace: name -> (steps, values), at most MOST_TRACE_POINTS means over equal stretches.
        environments: one for every start.
    """

    run: str
    path: Path
    status: Status
    cause: str = ""
    config: Settings = field(default_factory=dict)
    result: Settings = field(default_factory=dict)
    environments: Sequence[Settings] = ()
    trace: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def seconds_per_step(self) -> float | None:
        """Seconds of training over steps, where the run was trained in one go."""
        steps, seconds = self.result.get("num_steps"), self.result.get("training_seconds")
        if not steps or not seconds or len(self.environments) != 1:
            return None
        return seconds / steps


@dataclass(frozen=True)
class StudyData:
    """A study with all of its runs.

    Args:
        choices: arm -> [{"at", "chosen", "trials"}], as chosen.json holds it.
        problems: a sentence for each file that could not be read.
    """

    folder: Path
    study: StudyRecord
    plan: Sequence[Planned]
    runs: Mapping[str, RunRecord]
    choices: Mapping[str, Sequence[Settings]]
    problems: Sequence[str]

    def final(self, arm: str, place: Place) -> list[Planned]:
        """The final runs of a cell that are done and scored on the test rows, by seed."""
        found = [p for p in self.finals() if (p.arm, p.place) == (arm, place) and self.is_read(p)]
        return sorted(found, key=lambda p: repr(p.seed))

    def finals(self) -> Iterator[Planned]:
        """Every planned final run."""
        return (planned for planned in self.plan if planned.phase == "final")

    def is_read(self, planned: Planned) -> bool:
        """Whether a final run has scores on the test rows."""
        return "test" in self.runs[planned.run].readings

    def places(self) -> list[Place]:
        """The points of the final runs without their seeds, in the order of the axes' values."""
        found = list(dict.fromkeys(planned.place for planned in self.finals()))
        order = {
            axis: [place_of({axis: value})[0][1] for value in values]
            for axis, values in self.study.axes.items()
            if axis != "seed"
        }

        def rank(place: Place) -> tuple[int, ...]:
            return tuple(
                order[axis].index(value) if value in order.get(axis, []) else -1
                for axis, value in place
            )

        return sorted(found, key=rank)


def place_of(point: Settings) -> Place:
    """A point without its seed, in one order of axes; lists and mappings as JSON."""
    return tuple(
        (axis, value if isinstance(value, str | int | float | None) else json.dumps(value))
        for axis, value in sorted(point.items())
        if axis != "seed"
    )
