"""What a study should cost, from runs that are done and from what its author states."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
        runs: the different ones; without id and tuned settings where these are not chosen yet.
        done: ids of those that have their result.
        num_runs, num_done: how many these are, but for final runs that are tuning runs too.
        num_steps: optimizer steps of those counted and not done.
        seconds_per_step: None where nobody knows.
        source: where seconds_per_step is from.
    """

    phase: str
    arm: str
    runs: tuple[PlannedRun, ...]
    done: frozenset[str]
    num_runs: int
    num_done: int
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
    counted: set[str] = set()
    rows = []
    for phase, runs in (("tuning", tuning), ("final", final)):
        for arm in study.arms:
            own = {run.run: run for run in runs if run.arm == arm}
            new = [run for run in own.values() if run.run not in counted]
            if own:
                cost = _cost(study, phase, arm, list(own.values()), new, folder.store, identities)
                if phase == "final" and study.tuning is not None and arm not in chosen:
                    runs_to_be = tuple(replace(run, run="", tried={}) for run in own.values())
                    cost = replace(cost, runs=runs_to_be, done=frozenset())
                rows.append(cost)
        counted |= {run.run for run in runs}
    return rows


def _cost(
    study: Study,
    phase: str,
    arm: str,
    runs: Sequence[PlannedRun],
    new: Sequence[PlannedRun],
    store: Store,
    identities: Identities,
) -> ArmCost:
    done = frozenset(run.run for run in runs if store.is_trained(run.run))
    left = [run for run in new if run.run not in done]
    steps = sum(num_steps(run.config, identities.of(run.config)[1]) for run in left)
    measured = [seconds for run in done if (seconds := _seconds_per_step(store, run)) is not None]
    seconds = statistics.median(measured) if measured else study.seconds_per_step
    source = "stated" if seconds is not None else "not known"
    if measured:
        source = f"median of {len(measured)} runs"
    return ArmCost(
        phase, arm, tuple(runs), done, len(new), len(new) - len(left), steps, seconds, source
    )


def _seconds_per_step(store: Store, run: str) -> float | None:
    result = read_json(store.folder(run).result)
    try:
        return float(result["training_seconds"]) / float(result["num_steps"])
    except (KeyError, TypeError, ZeroDivisionError):
        return None
