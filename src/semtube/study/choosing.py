"""Choose each arm's settings from its tuning runs, by validation rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semtube.errors import UserError
from semtube.run_folder import read_json
from semtube.study.design import Study
from semtube.study.plan import PlannedRun
from semtube.study.store import Store


def choose(study: Study, runs: Sequence[PlannedRun], store: Store) -> dict[str, Any]:
    """Arm -> [{"at", "chosen", "trials"}], one for each tuning point; see `choice_at`.

    The best score on the validation rows wins, then the lower validation loss, then the setting
    that stands first in the grid. A failed trial cannot win; an arm whose trials all failed at a
    point has no choice there, and none at all if that is so everywhere.

    Raises:
        UserError: the validation rows have no such score.
    """
    assert study.tuning is not None
    score = study.tuning.score or study.primary
    chosen: dict[str, Any] = {}
    for arm in study.arms:
        by_point: dict[str, list[PlannedRun]] = {}
        for run in runs:
            if run.arm == arm:
                at = {axis: run.point[axis] for axis in study.tuning.at}
                by_point.setdefault(repr(at), []).append(run)
        found = [_best(study, trials, store, score) for trials in by_point.values()]
        if kept := [choice for choice in found if choice["chosen"] is not None]:
            chosen[arm] = kept
    return chosen


def _best(study: Study, runs: Sequence[PlannedRun], store: Store, score: str) -> dict[str, Any]:
    assert study.tuning is not None
    trials = [_trial(study, run, store, score) for run in runs]
    whole = [trial for trial in trials if trial["score"] is not None]
    best = max(whole, key=lambda t: (t["score"], -t["loss"]), default=None)
    return {
        "at": {axis: runs[0].point[axis] for axis in study.tuning.at},
        "chosen": best["tried"] if best else None,
        "trials": trials,
    }


def _trial(study: Study, run: PlannedRun, store: Store, score: str) -> dict[str, Any]:
    trial: dict[str, Any] = {"tried": run.tried, "run": run.run, "score": None, "loss": None}
    if not store.is_read(run.run, ("validation",), study.primary):
        return trial
    metrics = read_json(store.folder(run.run).readings / "validation" / "metrics.json")
    if score not in metrics:
        raise UserError(f"score {score!r} is not among those of the rows: {', '.join(metrics)}")
    return trial | {"score": metrics[score]["mean"], "loss": metrics["loss"]["mean"]}
