"""One arm under one setting: the spread of a score over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semtube.statistics.intervals import Interval, are_equal, no_spread, t_interval


@dataclass(frozen=True)
class CellSummary:
    """A score over the seeds of one cell.

    Args:
        mean: in the unit of the score.
        deviation: between seeds, dividing by S - 1; None for one seed.
        interval: Student's, of the mean over all seeds; None for one seed and for equal scores,
            from which no spread can be estimated.
        withheld: why there is no interval; empty where there is one.
    """

    mean: float
    deviation: float | None
    num_seeds: int
    interval: Interval | None
    withheld: str = ""


def summarise_cell(scores: Sequence[float], confidence: float = 0.95) -> CellSummary:
    """Mean, deviation and Student interval of one score a seed.

    Raises:
        ValueError: no scores, one that is not finite, or confidence outside (0, 1).
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted finite scores, one a seed, got {scores!r}")
    mean, num_seeds = float(values.mean()), len(values)
    deviation = float(values.std(ddof=1)) if num_seeds > 1 else None
    if are_equal(values):
        return CellSummary(mean, deviation, num_seeds, None, no_spread(num_seeds))
    return CellSummary(mean, deviation, num_seeds, t_interval(list(values), confidence))
