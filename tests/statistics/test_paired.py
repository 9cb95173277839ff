"""Student's paired test, equivalence, detectable differences: closed forms and simulated rates."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.detectable import detectable_difference
from semtube.statistics.equivalence import equivalence_test
from semtube.statistics.paired import paired_t_test

DIFFERENCES = [0.02, -0.01, 0.03, 0.005, 0.015]


def binomial_range(rate: float, trials: int) -> tuple[float, float]:
    """Where a share of `trials` lies in all but one of a million cases."""
    return tuple(stats.binom.ppf([5e-7, 1 - 5e-7], trials, rate) / trials)


def test_by_hand() -> None:
    # mean 0.012, squared deviations 0.00091 / 4: deviation 0.015248, t = 1.7598, 4 degrees.
    found = paired_t_test(DIFFERENCES)
    assert found.mean == pytest.approx(0.012)
    assert found.deviation == pytest.approx(0.0152480, abs=1e-6)
    assert found.p_two_sided == pytest.approx(2 * stats.t.sf(1.759765, 4), rel=1e-4)
    assert found.p_greater == pytest.approx(stats.t.sf(1.759765, 4), rel=1e-4)
    assert found.interval.low == pytest.approx(0.012 - 2.776445 * 0.0152480 / 5**0.5, abs=1e-6)


def test_one_pair_says_nothing_of_chance() -> None:
    found = paired_t_test([0.3])
    assert (found.mean, found.num_pairs) == (0.3, 1)
    assert found.interval is found.p_two_sided is found.p_greater is found.deviation is None
    assert equivalence_test([0.0], 0.01).is_equivalent is None
    assert detectable_difference(0.1, 1) is None


@pytest.mark.parametrize("value", [0.0, 0.5, -0.5])
def test_equal_differences_claim_nothing(value) -> None:
    found = paired_t_test([value] * 3)
    assert (found.mean, found.deviation, found.num_pairs) == (value, 0.0, 3)
    assert found.interval is found.p_two_sided is found.p_greater is None
    assert equivalence_test([value] * 3, 1.0).is_equivalent is None


@pytest.mark.parametrize("bad", [[], [float("nan"), 1.0], [[1.0, 2.0]]])
def test_bad_differences(bad) -> None:
    with pytest.raises(ValueError, match="finite differences"):
        paired_t_test(bad)
    with pytest.raises(ValueError, match="finite differences"):
        equivalence_test(bad, 0.01)


def test_equivalence_is_the_90_percent_interval_within_the_margin() -> None:
    interval = paired_t_test(DIFFERENCES, confidence=0.9).interval
    edge = max(-interval.low, interval.high)
    assert not equivalence_test(DIFFERENCES, edge * 0.999).is_equivalent
    assert equivalence_test(DIFFERENCES, edge * 1.001).is_equivalent
    mirrored = [-d for d in DIFFERENCES]
    assert equivalence_test(mirrored, edge * 1.001).is_equivalent
    with pytest.raises(ValueError, match="margin must be above 0"):
        equivalence_test(DIFFERENCES, 0.0)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_false_claims_come_at_the_stated_rate(num_seeds) -> None:
    """5 % of the t tests of no difference; at most 5 % of equivalences at the margin itself."""
    trials = 600
    draws = np.random.default_rng(num_seeds).normal(0, 0.01, (trials, num_seeds))
    tested = [paired_t_test(row) for row in draws]
    low, high = binomial_range(0.05, trials)
    assert low < np.mean([t.p_two_sided <= 0.05 for t in tested]) < high
    assert low < np.mean([t.p_greater <= 0.05 for t in tested]) < high
    low, high = binomial_range(0.95, trials)
    assert low < np.mean([t.interval.low <= 0 <= t.interval.high for t in tested]) < high
    margin = 0.02
    at_margin = [equivalence_test(row + margin, margin).is_equivalent for row in draws]
    assert np.mean(at_margin) < binomial_range(0.05, trials)[1]


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 20])
def test_a_detectable_difference_is_found_four_times_in_five(num_seeds) -> None:
    shift = detectable_difference(2.0, num_seeds)
    trials = 20_000
    draws = np.random.default_rng(0).normal(shift, 2.0, (trials, num_seeds))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    low, high = binomial_range(0.8, trials)
    assert low < found.mean() < high


def test_detectable_edges() -> None:
    assert detectable_difference(0.0, 5) == 0.0
    # Many pairs: the normal's (1.95996 + 0.84162) / sqrt(S).
    assert detectable_difference(1.0, 4_000) * 4_000**0.5 == pytest.approx(2.80158, rel=1e-3)
    with pytest.raises(ValueError, match="wanted deviation >= 0"):
        detectable_difference(-1.0, 3)
