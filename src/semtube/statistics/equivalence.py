"""Are two arms the same, as far as anybody cares?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from semtube.statistics.intervals import are_equal


@dataclass(frozen=True)
class Equivalence:
    """Whether the mean difference is shown to lie within the margin.

    Args:
        p: the larger of the two one-sided tests'; None for one pair, and for differences that are
            all equal, from which no spread can be estimated.
        is_equivalent: p is at most alpha; None where p is.
    """

    margin: float
    p: float | None
    is_equivalent: bool | None


def equivalence_test(
    differences: Sequence[float], margin: float, alpha: float = 0.05
) -> Equivalence:
    """Two one-sided Student tests of paired differences, one for each seed.

    Rejects "the mean is at most -margin" and "the mean is at least margin", each at alpha; both
    rejected means equivalent, with a false claim in at most alpha of the cases. The same as asking
    whether the 1 - 2 alpha interval lies within the margin.

    Raises:
        ValueError: no differences, one that is not finite, or a margin that is not above 0.

    Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657-680.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted finite differences, one a pair, got {differences!r}")
    if not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    if len(values) == 1 or are_equal(values):
        return Equivalence(margin, None, None)
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    p = float(max(above, below))
    return Equivalence(margin, p, p <= alpha)
