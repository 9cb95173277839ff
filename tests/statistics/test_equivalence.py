"""What two tests together allow one to say."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.equivalence import equivalence_test
from semtube.statistics.paired import paired_t_test

SPREAD = np.array([-0.002, 0.0, 0.002, -0.001, 0.001])


@pytest.mark.parametrize(
    ("differences", "is_equivalent"),
    [(SPREAD, True), (SPREAD + 0.005, True), (SPREAD - 0.05, False), (10 * SPREAD, False)],
)
def test_both_sides_are_tested(differences, is_equivalent) -> None:
    found = equivalence_test(differences, 0.01)
    assert found.is_equivalent is is_equivalent
    # Both one-sided tests at 5 % are a 90 % interval inside the margin.
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert bool(interval.low > -0.01 and interval.high < 0.01) == is_equivalent


@pytest.mark.parametrize("differences", [[0.2], [0.2, 0.2]])
def test_no_spread_claims_nothing(differences) -> None:
    assert equivalence_test(differences, 0.5).is_equivalent is None


def test_differences_equal_but_for_rounding_claim_nothing() -> None:
    differences = [0.3 - 0.2, 0.4 - 0.3, 0.2 - 0.1]
    assert len(set(differences)) > 1
    assert paired_t_test(differences).p_two_sided is None
    assert equivalence_test(differences, 0.2).is_equivalent is None


def test_either_claim_is_false_in_at_most_five_percent() -> None:
    """At the margin a claim of equivalence is false; at zero one of a difference is.

    So rarely in all but one of a million simulations.
    """
    trials, margin = 400, 0.02
    draws = np.random.default_rng(1).normal(0.0, 0.008, (trials, 4))
    equivalent = np.mean([bool(equivalence_test(r + margin, margin).is_equivalent) for r in draws])
    different = np.mean([(paired_t_test(row).p_two_sided or 0) <= 0.05 for row in draws])
    highest = stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
    # A margin of 2.5 deviations leaves both tests nearly all of their 5 %.
    assert 0.02 < equivalent <= highest
    assert 0.02 < different <= highest
