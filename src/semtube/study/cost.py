"""What a study should cost, from runs that are done and from what its author states."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semtube.errors import UserError
from semtube.run_folder import read_json
from semtube.study.design import Study
from semtube.study.plan import (
    Identities,
    PlannedRun,
    final_runs,
    num_steps,
    tuning_runs,
)
from semtube.study.runner import StudyFolder
from semtube.study.store import Store


@dataclass(frozen=True)
class ArmCost:
    """The runs of one arm in one phase.

    Args:
        runs: the different ones; without tuned settings where these are not chosen yet.
        done: ids of those that have their result.
        num_steps: optimizer steps of those not done.
        seconds_per_step: None where nobody knows.
        source: where seconds_per_step is from.
    """

    phase: str
    arm: str
    runs: tuple[PlannedRun, ...]
    done: frozenset[str]
    num_steps: int
    seconds_per_step: float | None
    source: str


def estimate_costs(study: Study, folder: StudyFolder) -> list[ArmCost]:
    """A row for each phase and arm; reads data to know sizes and ids, and leaves nothing behind.

    Final runs whose settings are not chosen yet are counted with the first combination.

    Raises:
        UserError: bad data.
    """
    if study.generated is None or folder.data.is_dir():
        return _estimate(folder.with_generated(study, write=False), folder)
    with tempfile.TemporaryDirectory() as place:  # the rows that the first run will make
        rows = StudyFolder(Path(place) / "study")
        return _estimate(rows.with_generated(study, write=True), folder)


def _estimate(study: Study, folder: StudyFolder) -> list[ArmCost]:
    identities = Identities()
    choices = read_json(folder.chosen) if folder.chosen.is_file() else {}
    chosen = set(choices)
    if study.tuning is not None:
        for arm in study.arms:
            guess = {"at": {}, "chosen": study.combinations(arm)[0]}
            choices.setdefault(arm, [guess])
    tuning = list(tuning_runs(study, identities))
    final = list(final_runs(study, choices, identities))
    seen = {run.run for run in tuning}
    rows = []
    for phase, runs in (("tuning", tuning), ("final", final)):
        for arm in study.arms:
            own = {
                r.run: r for r in runs if r.arm == arm and (phase == "tuning" or r.run not in seen)
            }
            if own:
                cost = _cost(study, phase, arm, list(own.values()), folder.store, identities)
                if phase == "final" and study.tuning is not None and arm not in chosen:
                    cost = replace(cost, runs=tuple(replace(r, tried={}) for r in cost.runs))
                rows.append(cost)
    return rows


def _cost(
    study: Study,
    phase: str,
    arm: str,
    runs: Sequence[PlannedRun],
    store: Store,
    identities: Identities,
) -> ArmCost:
    left = [run for run in runs if not store.folder(run.run).is_done]
    steps = sum(num_steps(run.config, identities.of(run.config)[1]) for run in left)
    measured = [
        seconds for run in runs if (seconds := _seconds_per_step(store, run.run)) is not None
    ]
    seconds = statistics.median(measured) if measured else study.seconds_per_step
    source = "stated" if seconds is not None else "not known"
    if measured:
        source = f"median of {len(measured)} runs"
    done = frozenset(run.run for run in runs) - {run.run for run in left}
    return ArmCost(phase, arm, tuple(runs), done, steps, seconds, source)


def _seconds_per_step(store: Store, run: str) -> float | None:
    folder = store.folder(run)
    if not folder.is_done:
        return None
    try:
        result = read_json(folder.result)
        return float(result["training_seconds"]) / float(result["num_steps"])
    except (UserError, KeyError, TypeError, ZeroDivisionError):
        return None
