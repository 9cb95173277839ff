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

FractionCells = dict[float, Cell]
"""Fraction -> an arm's scored cell there."""


@dataclass(frozen=True)
class ArmMultiplier:
    """A data multiplier, of which arm, where on the other axes, and from which seeds."""

    arm: str
    place: Place
    multiplier: Multiplier
    seeds: tuple[Any, ...]


@dataclass(frozen=True)
class ArmCurve:
    """An arm's error as a power law plus a constant, where on the other axes.

    Args:
        seeds: those it is fitted to; the difference, to those of them that the baseline has too.
        difference: of its exponent from the baseline's; None for the baseline itself.
        note: why there is no curve or no difference, or what they leave out; else empty.
    """

    arm: str
    place: Place
    seeds: tuple[Any, ...]
    fitted: FittedCurve | None = None
    difference: ExponentDifference | None = None
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
            sizes_F, scores_AFS, seeds = _scores(both)
            if len(sizes_F) < 2 or not seeds:
                continue
            made = data_multipliers(
                sizes_F,
                *scores_AFS,
                higher_is_better=True,
                confidence=CONFIDENCE,
                generator=_generator(),
            )
            found += [ArmMultiplier(arm, place, multiplier, seeds) for multiplier in made]
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
            if len(own) > 1:
                found.append(_curve(arm, place, own, None if arm == data.study.baseline else base))
    return found


def _curve(arm: str, place: Place, own: FractionCells, base: FractionCells | None) -> ArmCurve:
    sizes_F, scores_AFS, seeds = _scores([own])
    if why := _why_unfitted(sizes_F, scores_AFS, seeds):
        return ArmCurve(arm, place, seeds, note=why)
    fitted = fit_with_intervals(
        sizes_F, 1 - scores_AFS[0], confidence=CONFIDENCE, generator=_generator()
    )
    if base is None:
        return ArmCurve(arm, place, seeds, fitted)
    sizes_F, scores_AFS, shared = _scores([base, own])
    if why := _why_unfitted(sizes_F, scores_AFS, shared):
        return ArmCurve(arm, place, seeds, fitted, note=f"no difference: {why}")
    difference = exponent_difference(
        sizes_F, *(1 - scores_AFS), confidence=CONFIDENCE, generator=_generator()
    )
    left = f"difference: from {len(shared)} seeds that both have" if shared != seeds else ""
    return ArmCurve(arm, place, seeds, fitted, difference, left)


def _why_unfitted(sizes_F: np.ndarray, scores_AFS: np.ndarray, seeds: Sequence[Any]) -> str:
    if not seeds:
        return "no seed is scored at every fraction"
    return why_unfitted(sizes_F, 1 - scores_AFS)


def _generator() -> np.random.Generator:
    # The same resamples for every curve, so that each is fitted once.
    return np.random.default_rng(SEED)


def _scores(arms: Sequence[FractionCells]) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    """Sizes (F) that all arms have, scores (arm, F, S) and the seeds (S) scored at every one."""
    by_size: dict[float, float] = {}
    for fraction in sorted(set.intersection(*(set(arm) for arm in arms))):
        # Neighbouring fractions of few rows may be the same rows.
        by_size.setdefault(arms[0][fraction].num_examples or 0.0, fraction)
    cells_AF = [[arm[fraction] for fraction in by_size.values()] for arm in arms]
    seeds = tuple(
        seed
        for seed in (cells_AF[0][0].seeds if by_size else ())
        if all(seed in cell.seeds for cells_F in cells_AF for cell in cells_F)
    )
    scores_AFS = np.array(
        [
            [[cell.scores[cell.seeds.index(seed)] for seed in seeds] for cell in cells_F]
            for cells_F in cells_AF
        ]
    )
    return np.array([*by_size], dtype=float), scores_AFS, seeds


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
