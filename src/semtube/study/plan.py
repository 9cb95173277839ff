"""From a study to its runs: which there are, under which id, and what they should cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from semtube.config import RunConfig
from semtube.study.design import Settings, Study, nearest
from semtube.study.splits import Pool, read_pool


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study, and the splits to decode with its final model.

    Args:
        run: its id, the hash of what can change a number.
        point: its values on the axes.
        tried: its tuned settings.
    """

    run: str
    phase: Literal["tuning", "final"]
    arm: str
    point: dict[str, Any]
    tried: dict[str, Any]
    read: tuple[str, ...]
    config: RunConfig

    def to_dict(self) -> dict[str, Any]:
        """As plan.json holds it; the settings are in the run's own folder."""
        return {name: value for name, value in asdict(self).items() if name != "config"}


class Identities:
    """Ids of runs; the rows that several runs share are read once."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._prints: dict[tuple[str, float, int], tuple[dict[str, str], int]] = {}

    def of(self, config: RunConfig) -> tuple[str, int]:
        """The id that the run will have, and its number of training rows.

        Raises:
            UserError: bad data.
        """
        rows = ("task", "task_options", "data", "data_folder", "validation", "validation_rows",
                "test", "drop_overlap")  # fmt: skip
        key = json.dumps([getattr(config, name) for name in rows], sort_keys=True)
        if key not in self._pools:
            self._pools[key] = read_pool(config)
        pool, place = self._pools[key], (key, config.fraction, config.seed)
        if place not in self._prints:
            chosen = pool.chosen(config.fraction, config.seed)
            self._prints[place] = pool.fingerprints(chosen), len(chosen)
        prints, num_rows = self._prints[place]
        return config.identity(prints), num_rows


Choices = Mapping[str, Sequence[Mapping[str, Any]]]
"""Arm -> [{"at": point of the tuning, "chosen": settings, ...}], as chosen.json holds it."""


def tuning_runs(study: Study, identities: Identities) -> Iterator[PlannedRun]:
    """Every combination of every arm's grid at the tuning points, read on validation rows only."""
    if study.tuning is None:
        return
    for point in study.points():
        if not _is_tuned_at(study, point):
            continue
        for arm in study.arms:
            for tried in study.combinations(arm):
                yield _plan(study, identities, "tuning", arm, point, tried, ("validation",))


def _is_tuned_at(study: Study, point: Settings) -> bool:
    """Axes that the tuning does not name are tuned at their first value, the seed at its own."""
    assert study.tuning is not None
    first = {axis: values[:1] for axis, values in study.axes.items()}
    at = {**first, "seed": [study.tuning.seed], **study.tuning.at}
    return all(point[axis] in values for axis, values in at.items())


def final_runs(study: Study, choices: Choices, identities: Identities) -> Iterator[PlannedRun]:
    """Every arm with a choice at every point, read on the test rows."""
    for arm in study.arms:
        if study.tuning is not None and arm not in choices:
            continue
        for point in study.points():
            tried = choice_at(choices[arm], point) if study.tuning is not None else {}
            yield _plan(study, identities, "final", arm, point, tried, ("test",))


def choice_at(choices: Sequence[Mapping[str, Any]], point: Settings) -> dict[str, Any]:
    """The settings chosen at the tuning point nearest to this point."""
    left = list(choices)
    for axis in left[0]["at"]:
        value = nearest(point[axis], [choice["at"][axis] for choice in left])
        left = [choice for choice in left if choice["at"][axis] == value]
    return dict(left[0]["chosen"])


def _plan(
    study: Study,
    identities: Identities,
    phase: Literal["tuning", "final"],
    arm: str,
    point: dict[str, Any],
    tried: dict[str, Any],
    read: tuple[str, ...],
) -> PlannedRun:
    config = study.config(arm, point, tried)
    return PlannedRun(identities.of(config)[0], phase, arm, point, tried, read, config)


def num_steps(config: RunConfig, num_rows: int) -> int:
    """Optimizer steps of a run over its rows, before rows that are too long are left out."""
    if config.steps is not None:
        return config.steps
    return max(1, round(config.epochs * -(-num_rows // config.batch_size)))
