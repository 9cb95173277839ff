"""Two arms compared by seed: Student's paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from semtube.statistics.intervals import Interval, are_equal, t_interval


@dataclass(frozen=True)
class PairedTest:
    """What differences between paired runs say of their mean.

    Args:
        mean: in the unit of the score.
        deviation: of the differences, dividing by S - 1; None for one pair.
        interval: Student's, of the mean; None for one pair, and for differences that are all equal
            but for rounding, from which no spread can be estimated. So are the p values.
        p_two_sided: of a mean difference of zero.
        p_greater: of a mean difference of at most zero.
    """

    mean: float
    deviation: float | None
    num_pairs: int
    interval: Interval | None
    p_two_sided: float | None
    p_greater: float | None


def paired_t_test(differences: Sequence[float], confidence: float = 0.95) -> PairedTest:
    """Student's test of paired differences, one for each seed.

    t = mean / (deviation / sqrt(S)) with S - 1 degrees of freedom; it takes differences to be
    normal and seeds to be independent. Two seeds may well differ by the same number of test rows:
    an interval without width would then claim a certainty that is not there, so none is given.

    Raises:
        ValueError: no differences, or one that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted finite differences, one a pair, got {differences!r}")
    mean = float(values.mean())
    if len(values) == 1:
        return PairedTest(mean, None, 1, None, None, None)
    deviation = float(values.std(ddof=1))
    if are_equal(values):
        return PairedTest(mean, deviation, len(values), None, None, None)
    return PairedTest(
        mean,
        deviation,
        len(values),
        interval=t_interval(list(values), confidence),
        p_two_sided=float(stats.ttest_1samp(values, 0.0).pvalue),
        p_greater=float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue),
    )
