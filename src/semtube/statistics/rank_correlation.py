"""Do two numbers of the same runs rise together? Rank correlation, within groups of like runs."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from semtube.statistics.intervals import Interval


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation within groups.

    Args:
        rho: -1 to 1; None where one of the two numbers is the same in every run of each group.
        interval: None with fewer than four runs more than groups, or without rho.
        p: two-sided, of no relation within groups.
        num_runs, num_groups: that were used; a group of one run is left out.
    """

    rho: float | None
    interval: Interval | None
    p: float | None
    num_runs: int
    num_groups: int


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    groups: Sequence[Hashable],
    *,
    generator: np.random.Generator,
    num_permutations: int = 9999,
    confidence: float = 0.95,
) -> RankCorrelation:
    """Spearman's rho of x and y within groups, so that what sets groups apart does not count.

    In every group both numbers become ranks (ties share one), less the group's mean rank, over
    the group's size. rho is the correlation of these over all runs. p permutes y within groups:
    (1 + as extreme) / (1 + permutations). The interval is Bonett and Wright's for Spearman's rho,
    tanh(atanh rho -+ z sqrt((1 + rho^2 / 2) / (n - G - 2))) with n runs in G groups: for one group
    theirs exactly, for more a group's mean takes one run.

    Args:
        x, y, groups: one a run.
        generator: of the permutations.

    Raises:
        ValueError: unequal numbers of runs, or a number that is not finite.

    Source: Bonett and Wright (2000), Psychometrika 65, 23-28; groups as in a stratified
        permutation test.
    """
    x_R, y_R = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not len(x_R) == len(y_R) == len(groups) or not np.isfinite([*x_R, *y_R]).all():
        raise ValueError(
            "wanted finite x, y and a group for each run, "
            f"got {len(x_R)}, {len(y_R)} and {len(groups)}"
        )
    places: dict[Hashable, list[int]] = {}
    for run, group in enumerate(groups):
        places.setdefault(group, []).append(run)
    used = [np.array(runs) for runs in places.values() if len(runs) > 1]
    num_runs = sum(map(len, used))
    rank_x, rank_y = _ranks(x_R, used), _ranks(y_R, used)
    size = float(np.sqrt(rank_x @ rank_x * (rank_y @ rank_y)))
    if size == 0:
        return RankCorrelation(None, None, None, num_runs, len(used))
    rho = float(rank_x @ rank_y) / size
    starts = np.cumsum([0, *map(len, used)])
    extreme = 0
    for _ in range(num_permutations):
        shuffled = np.concatenate(
            [generator.permutation(rank_y[start:stop]) for start, stop in pairwise(starts)]
        )
        extreme += abs(float(rank_x @ shuffled)) >= abs(rho) * size * (1 - 1e-12)
    p = (1 + extreme) / (1 + num_permutations)
    free = num_runs - len(used) - 2
    return RankCorrelation(rho, _interval(rho, free, confidence), p, num_runs, len(used))


def _ranks(values_R: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Ranks within each group, centred and over its size, group after group."""
    parts = []
    for runs in groups:
        ranks = stats.rankdata(values_R[runs])
        parts.append((ranks - ranks.mean()) / len(runs))
    return np.concatenate(parts) if parts else np.zeros(0)


def _interval(rho: float, free: int, confidence: float) -> Interval | None:
    if free < 2:
        return None
    if abs(rho) > 1 - 1e-12:
        return Interval(rho, rho, confidence)
    error = np.sqrt((1 + rho**2 / 2) / free)
    half = stats.norm.ppf((1 + confidence) / 2) * error
    middle = np.arctanh(rho)
    return Interval(float(np.tanh(middle - half)), float(np.tanh(middle + half)), confidence)
