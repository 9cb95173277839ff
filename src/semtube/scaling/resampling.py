"""Resampled seeds: a statistic of each resample, and how far that of few must be stretched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

# Shape letters: S seeds, R resamples.


def drawn_seeds(num_seeds: int, num_resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Seeds drawn with replacement: int, (R, S)."""
    return generator.integers(num_seeds, size=(num_resamples, num_seeds))


def of_resamples(statistic: Callable[[np.ndarray], np.ndarray], drawn_RS: np.ndarray) -> np.ndarray:
    """The statistic of every resample, computed once for those that hold the same seeds.

    Three seeds have only ten different resamples, five have 126.

    Args:
        statistic: of the drawn seeds, sorted; must not depend on their order.
    """
    distinct, place_R = np.unique(np.sort(drawn_RS, axis=1), axis=0, return_inverse=True)
    return np.array([statistic(drawn_S) for drawn_S in distinct])[place_R.reshape(-1)]


def seed_stretch(num_seeds: int, confidence: float) -> float:
    """By what resampled deviations fall short: sqrt(S / (S - 1)) * t(S - 1) / z.

    Means of drawn seeds spread too little by the root, and percentiles of a normal know nothing of
    a deviation that comes from few values; t and z are the quantiles of (1 + confidence) / 2.

    Raises:
        ValueError: fewer than two seeds, or confidence outside (0, 1).

    Source: Hesterberg (2015), "What Teachers Should Know About the Bootstrap", Am. Stat. 69.
    """
    if num_seeds < 2 or not 0 < confidence < 1:
        raise ValueError(
            "wanted at least two seeds and a confidence between 0 and 1, "
            f"got {num_seeds} and {confidence}"
        )
    quantile = (1 + confidence) / 2
    student_to_normal = stats.t.ppf(quantile, num_seeds - 1) / stats.norm.ppf(quantile)
    return float(np.sqrt(num_seeds / (num_seeds - 1)) * student_to_normal)
