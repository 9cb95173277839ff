"""Are two arms the same, as far as anybody cares?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from semtube.statistics.intervals import are_equal, no_spread
from semtube.statistics.paired import PairedTest


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


@dataclass(frozen=True)
class Verdict:
    """What both tests together allow one to say; `sentence` has no full stop."""

    kind: Literal["equivalent", "different", "undecided"]
    sentence: str


def verdict(test: PairedTest, equivalence: Equivalence, alpha: float = 0.05) -> Verdict:
    """The sentence that a paired test and an equivalence test of the same differences allow.

    A p above alpha never means "no difference": without equivalence that is undecided. A difference
    that is shown and yet within the margin counts as equivalent, and the sentence tells it.
    """
    within = f"within {equivalence.margin:g} either way"
    if test.p_two_sided is None or equivalence.is_equivalent is None:
        return Verdict("undecided", f"undecided: {no_spread(test.num_pairs)}")
    is_different = test.p_two_sided <= alpha
    if equivalence.is_equivalent:
        small = f", with a difference of {test.mean:+.3g} shown" if is_different else ""
        return Verdict("equivalent", f"equivalent {within}{small}")
    if is_different:
        return Verdict("different", f"different by {test.mean:+.3g}")
    return Verdict(
        "undecided", f"undecided: neither a difference nor equivalence {within} is shown"
    )
