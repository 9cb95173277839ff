"""Two arms compared by seed: Student's paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from semtube.statistics.intervals import Interval, t_interval


@dataclass(frozen=True)
class PairedTest:
    """What differences between paired runs say of their mean.

    Args:
        mean: in the unit of the score.
        deviation: of the differences, dividing by S - 1; None for one pair, as are all that follow.
        interval: Student's, of the mean.
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
    normal and seeds to be independent. Equal differences have no deviation: their interval has no
    width, and p is 1 at a mean of zero and else 0, which says that the seeds cannot tell, not that
    all is certain.

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
    interval = t_interval(list(values), confidence)
    if np.ptp(values) == 0:
        two, greater = (1.0, 1.0) if mean == 0 else (0.0, float(mean < 0))
    else:
        two = float(stats.ttest_1samp(values, 0.0).pvalue)
        greater = float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)
    return PairedTest(mean, deviation, len(values), interval, two, greater)
