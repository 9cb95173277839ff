"""The learning curves of a study's arms: data multipliers, fitted laws, exponents compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semtube.report.study_cells import CONFIDENCE, Cell
from semtube.report.study_comparisons import SEED
from semtube.report.study_data import Place, StudyData
from semtube.scaling.data_multiplier import Multiplier, data_multipliers
from semtube.scaling.exponent_difference import ExponentDifference, exponent_difference
from semtube.scaling.fitted_curve import FittedCurve, fit_with_intervals
from semtube.scaling.learning_curve import why_unfitted

FractionCells = dict[Any, Cell]
"""Fraction -> an arm's scored cell there."""


@dataclass(frozen=True)
class ArmMultiplier:
    """A data multiplier, of which arm, and where on the other axes."""

    arm: str
    place: Place
    multiplier: Multiplier


@dataclass(frozen=True)
class ArmCurve:
    """An arm's error as a power law plus a constant, where on the other axes.

    Args:
        difference: of its exponent from the baseline's; None for the baseline itself.
        note: why nothing is fitted; empty where something is.
    """

    arm: str
    place: Place
    fitted: FittedCurve | None
    difference: ExponentDifference | None
    note: str = ""


def multipliers(data: StudyData, cells: Sequence[Cell]) -> list[ArmMultiplier]:
    """Data multipliers of every arm, from the seeds that are scored at every fraction.

    Empty with fewer than two fractions.
    """
    found = []
    for place in _places(cells):
        for arm in data.study.arms:
            if arm == data.study.baseline:
                continue
            both = [_of_arm(cells, name, place) for name in (data.study.baseline, arm)]
            sizes_F, scores_AFS = _scores(both)
            if len(sizes_F) < 2 or not scores_AFS.size:
                continue
            made = data_multipliers(
                sizes_F,
                *scores_AFS,
                higher_is_better=True,
                confidence=CONFIDENCE,
                generator=_generator(),
            )
            found += [ArmMultiplier(arm, place, multiplier) for multiplier in made]
    return found


def learning_curves(data: StudyData, cells: Sequence[Cell]) -> list[ArmCurve]:
    """The fitted curve of every arm, its exponent beside the baseline's.

    Empty with fewer than two fractions.
    """
    found = []
    for place in _places(cells):
        base = _of_arm(cells, data.study.baseline, place)
        for arm in data.study.arms:
            own = _of_arm(cells, arm, place)
            sizes_F, scores_AFS = _scores([own])
            if len(sizes_F) < 2 or not scores_AFS.size:
                continue
            errors_FS = 1 - scores_AFS[0]
            if note := why_unfitted(sizes_F, errors_FS):
                found.append(ArmCurve(arm, place, None, None, note))
                continue
            fitted = fit_with_intervals(
                sizes_F, errors_FS, confidence=CONFIDENCE, generator=_generator()
            )
            difference = None if arm == data.study.baseline else _difference([base, own])
            found.append(ArmCurve(arm, place, fitted, difference))
    return found


def _difference(both: Sequence[FractionCells]) -> ExponentDifference | None:
    sizes_F, scores_AFS = _scores(both)
    if not scores_AFS.size or why_unfitted(sizes_F, 1 - scores_AFS):
        return None
    return exponent_difference(
        sizes_F, *(1 - scores_AFS), confidence=CONFIDENCE, generator=_generator()
    )


def _generator() -> np.random.Generator:
    # The same resamples for every curve, so that each is fitted once.
    return np.random.default_rng(SEED)


def _scores(arms: Sequence[FractionCells]) -> tuple[np.ndarray, np.ndarray]:
    """Sizes (F) and scores (arm, F, S) where all arms have them, of seeds that are at every one."""
    fractions = sorted(set.intersection(*(set(arm) for arm in arms)))
    cells_AF = [[arm[fraction] for fraction in fractions] for arm in arms]
    seeds = [
        seed
        for seed in (cells_AF[0][0].seeds if fractions else ())
        if all(seed in cell.seeds for cells_F in cells_AF for cell in cells_F)
    ]
    scores_AFS = np.array(
        [
            [[cell.scores[cell.seeds.index(seed)] for seed in seeds] for cell in cells_F]
            for cells_F in cells_AF
        ]
    )
    sizes_F = np.array([cell.num_examples for cell in cells_AF[0]], dtype=float)
    return sizes_F, scores_AFS


def _places(cells: Sequence[Cell]) -> list[Place]:
    """Where on the other axes there are fractions."""
    return list(dict.fromkeys(_without_fraction(c.place) for c in cells if _has_fraction(c.place)))


def _of_arm(cells: Sequence[Cell], arm: str, place: Place) -> FractionCells:
    return {
        dict(c.place)["fraction"]: c
        for c in cells
        if c.arm == arm and c.seeds and c.num_examples and _has_fraction(c.place)
        and _without_fraction(c.place) == place
    }  # fmt: skip


def _has_fraction(place: Place) -> bool:
    return any(axis == "fraction" for axis, _ in place)


def _without_fraction(place: Place) -> Place:
    return tuple((axis, value) for axis, value in place if axis != "fraction")
