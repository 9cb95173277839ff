"""Rank correlation within groups: against scipy, and its rates in simulation."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.rank_correlation import rank_correlation


def found(x, y, groups=None, **options):
    groups = [0] * len(x) if groups is None else groups
    return rank_correlation(x, y, groups, generator=np.random.default_rng(0), **options)


def test_one_group_is_spearmans() -> None:
    generator = np.random.default_rng(1)
    x = generator.integers(0, 6, 30).astype(float)  # with ties
    y = x + generator.normal(0, 3, 30)
    result = found(x, y)
    assert result.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert result.p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)


def test_what_sets_groups_apart_does_not_count() -> None:
    """Groups differ in both numbers, and within each the relation is the other way round."""
    x = np.array([1, 2, 3, 4, 11, 12, 13, 14], dtype=float)
    y = np.array([14, 13, 12, 11, 24, 23, 22, 21], dtype=float)
    assert stats.spearmanr(x, y).statistic > 0.4
    assert found(x, y, list("aaaabbbb")).rho == pytest.approx(-1)


def test_scales_of_groups_do_not_count() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 20))
    groups = [run % 2 for run in range(20)]
    stretched = np.where(np.array(groups) == 1, np.exp(5 * y), y)
    assert found(x, y, groups).rho == found(x, stretched, groups).rho


def test_nothing_to_say() -> None:
    assert found([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).rho is None
    alone = found([1.0, 2.0], [3.0, 4.0], ["a", "b"])
    assert (alone.rho, alone.num_runs, alone.num_groups) == (None, 0, 0)
    assert found([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).interval is None
    with pytest.raises(ValueError, match="got 2, 3 and 2"):
        found([1.0, 2.0], [1.0, 2.0, 3.0], [0, 0])
    with pytest.raises(ValueError, match="finite"):
        found([1.0, np.nan], [1.0, 2.0])


@pytest.mark.parametrize(("sizes", "correlation"), [((20,), 0.5), ((12, 12, 12), 0.0),
                                                    ((12, 12, 12), 0.6)])  # fmt: skip
def test_intervals_hold_the_truth_and_p_is_one(sizes, correlation) -> None:
    """In 95 % of the simulations, and p below 5 % in at most 5 % where there is no relation.

    Normal numbers with correlation r have Spearman's rho 6 / pi asin(r / 2).
    """
    truth = 6 / np.pi * np.arcsin(correlation / 2)
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    trials, held, small = 400, 0, 0
    for _ in range(trials):
        x, noise = generator.normal(size=(2, len(groups)))
        y = correlation * x + np.sqrt(1 - correlation**2) * noise + 10 * groups
        result = rank_correlation(x, y, groups, generator=generator, num_permutations=199)
        held += result.interval.low <= truth <= result.interval.high
        small += result.p <= 0.05
    # So far off in all but one of a million sets of simulations.
    low, high = stats.binom.ppf([1e-6, 1 - 1e-6], trials, 0.95) / trials
    assert low <= held / trials <= high
    if correlation == 0:
        assert small / trials <= stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
