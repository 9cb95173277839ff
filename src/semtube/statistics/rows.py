"""Two arms compared by test row: McNemar's test, and one over several seeds."""

from __future__ import annotations

import numpy as np
from scipy import stats


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Chance of a split at least as uneven as only_a : only_b, were both equally likely.

    Exact and two-sided; 1.0 where no row differs. For two runs: their rows count once each.

    Raises:
        ValueError: a count below 0.

    Source: McNemar (1947), Psychometrika 12, 153-157, with the binomial in place of chi-squared.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"counts must be at least 0, got {only_a} and {only_b}")
    differing = only_a + only_b
    return float(stats.binomtest(only_b, differing).pvalue) if differing else 1.0


# Shape letters: S seeds, N test rows, R resamples.


def sign_flip_p(
    difference_SN: np.ndarray, *, num_resamples: int, generator: np.random.Generator
) -> float:
    """McNemar's question over several seeds: do these runs differ on new rows of this kind?

    Every row's differences are averaged over the seeds first, so that a row counts once however
    many seeds saw it (rows counted once a seed would make S seeds look like S test sets). Under the
    hypothesis a row's mean difference is as likely to have either sign; p is the share of random
    sign patterns whose mean is at least as far from zero, the observed one counted in. It speaks of
    rows for these very seeds, not of new seeds. 1.0 where no row differs.

    Args:
        difference_SN: score of one arm minus the other's, by seed and row.
        generator: is advanced.

    Raises:
        ValueError: no differences, or num_resamples below 1.
    """
    if difference_SN.ndim != 2 or difference_SN.size == 0:
        raise ValueError(f"differences must be (seeds, rows), got shape {difference_SN.shape}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    row_N = difference_SN.mean(axis=0)
    sizes, counts = np.unique(np.abs(row_N[row_N != 0]), return_counts=True)
    observed = abs(row_N.sum())
    # A random pattern gives each size a binomial number of plus signs.
    plus_RK = generator.binomial(counts, 0.5, size=(num_resamples, len(counts)))
    sums_R = (2 * plus_RK - counts) @ sizes
    # Sums of thirds differ in the last bit by the order they are taken in.
    at_least = int((np.abs(sums_R) >= observed - 1e-9).sum())
    return (1 + at_least) / (1 + num_resamples)
