"""Intervals: closed forms, and how often they hold the truth in simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.intervals import Interval, bootstrap_interval, t_interval, wilson_interval


def holds(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high


def chance_band(rate: float, num_experiments: int) -> tuple[float, float]:
    """The shares that a simulation of a true rate leaves once in 10 000 times by chance alone."""
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], num_experiments, rate)
    return low / num_experiments, high / num_experiments


@pytest.mark.parametrize(("num_right", "num_examples"), [(0, 20), (7, 20), (20, 20), (300, 500)])
def test_wilson_limits_are_the_roots_of_the_score_equation(num_right, num_examples):
    interval = wilson_interval(num_right, num_examples, confidence=0.9)
    z, rate = stats.norm.ppf(0.95), num_right / num_examples
    # Wilson's limits are the true rates that lie exactly z of their standard errors away.
    for limit in (interval.low, interval.high):
        squared = z**2 * limit * (1 - limit) / num_examples
        assert (rate - limit) ** 2 == pytest.approx(squared, abs=1e-12)
    assert interval.confidence == 0.9
    assert interval.low < interval.high


def test_wilson_limits_of_no_success_match_hand_numbers():
    interval = wilson_interval(0, 10)
    assert interval.low == 0
    assert interval.high == pytest.approx(1.959964**2 / (10 + 1.959964**2), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_covers_at_the_stated_rate_averaged_over_true_rates(confidence):
    num_examples, rates = 60, np.linspace(0.05, 0.95, 181)
    intervals = [wilson_interval(k, num_examples, confidence) for k in range(num_examples + 1)]
    held = np.array([[holds(interval, rate) for rate in rates] for interval in intervals])
    chance = stats.binom.pmf(np.arange(num_examples + 1)[:, None], num_examples, rates)
    # Exact, not simulated: coverage jumps with the rate, its mean does not.
    assert (held * chance).sum(axis=0).mean() == pytest.approx(confidence, abs=0.005)


@pytest.mark.parametrize(("num_right", "num_examples"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(num_right, num_examples):
    with pytest.raises(ValueError, match=f"got num_right={num_right}, num_examples="):
        wilson_interval(num_right, num_examples)


def test_t_interval_of_two_values_matches_hand_numbers():
    interval = t_interval([1.0, 3.0], 0.95)
    # Deviation sqrt(2), standard error 1, and t with one degree of freedom is tan(0.475 pi).
    assert interval.low == pytest.approx(2 - math.tan(0.475 * math.pi))
    assert interval.high == pytest.approx(2 + math.tan(0.475 * math.pi))


@pytest.mark.parametrize("num_seeds", [2, 3, 8])
def test_t_interval_covers_at_the_stated_rate(num_seeds):
    values = np.random.default_rng(1).normal(5.0, 2.0, size=(3000, num_seeds))
    coverage = np.mean([holds(t_interval(row, 0.9), 5.0) for row in values])
    low, high = chance_band(0.9, len(values))
    assert low <= coverage <= high


def test_one_value_has_no_t_interval_and_none_is_refused():
    assert t_interval([0.5], 0.95) is None
    assert t_interval([0.5, 0.5], 0.95) == Interval(0.5, 0.5, 0.95)
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([], 0.95)


def bootstrap(scores_SN, over_seeds, generator, num_resamples=400):
    return bootstrap_interval(
        scores_SN,
        over_seeds=over_seeds,
        confidence=0.95,
        num_resamples=num_resamples,
        generator=generator,
    )


def simulated_coverage(
    num_seeds: int, seed_deviation: float, row_deviation: float, over_seeds: bool
) -> float:
    """How often 400 intervals hold the true mean 0 of rows, seeds and noise (deviation 1)."""
    generator = np.random.default_rng(2)
    held = []
    for _ in range(400):
        rows_N = row_deviation * generator.normal(size=80)
        seeds_S1 = seed_deviation * generator.normal(size=(num_seeds, 1))
        scores_SN = rows_N + seeds_S1 + generator.normal(size=(num_seeds, 80))
        held.append(holds(bootstrap(scores_SN, over_seeds, generator), 0.0))
    return float(np.mean(held))


@pytest.mark.parametrize("row_deviation", [0.0, 1.5])
def test_bootstrap_over_test_rows_covers_when_seeds_share_them(row_deviation):
    coverage = simulated_coverage(5, 0.0, row_deviation, over_seeds=False)
    low, high = chance_band(0.95, 400)
    # 80 rows and 400 resamples cost a little coverage: 0.937 in 3000 experiments.
    assert low - 0.013 <= coverage <= high


@pytest.mark.parametrize(
    ("num_seeds", "seed_deviation", "row_deviation"), [(3, 1.0, 0.0), (3, 0.1, 1.5), (5, 0.5, 1.0)]
)
def test_bootstrap_over_seeds_covers_at_least_at_the_stated_rate(
    num_seeds, seed_deviation, row_deviation
):
    coverage = simulated_coverage(num_seeds, seed_deviation, row_deviation, over_seeds=True)
    assert coverage >= chance_band(0.95, 400)[0]


def test_bootstrap_over_test_rows_alone_says_nothing_about_new_seeds():
    assert simulated_coverage(3, 1.0, 0.0, over_seeds=False) < 0.5


def test_bootstrap_over_seeds_is_as_wide_as_students_interval_when_seeds_rule():
    generator = np.random.default_rng(3)
    seeds_S1 = generator.normal(size=(8, 1))
    scores_SN = np.broadcast_to(seeds_S1, (8, 50))
    boot = bootstrap(scores_SN, True, generator, num_resamples=20_000)
    student = t_interval(seeds_S1[:, 0], 0.95)
    ratio = (boot.high - boot.low) / (student.high - student.low)
    assert ratio == pytest.approx(1, abs=0.05)


def test_bootstrap_limits_of_one_run_are_binomial_quantiles():
    right_1N = np.arange(200)[None] < 60
    interval = bootstrap(right_1N.astype(float), False, np.random.default_rng(4), 40_000)
    low, high = stats.binom.ppf([0.025, 0.975], 200, 0.3) / 200
    assert interval.low == pytest.approx(low, abs=1.01 / 200)
    assert interval.high == pytest.approx(high, abs=1.01 / 200)


def test_bootstrap_of_equal_columns_has_no_width():
    interval = bootstrap(np.full((2, 9), 0.25), False, np.random.default_rng(5))
    assert interval == Interval(0.25, 0.25, 0.95)


def test_bootstrap_refuses_what_it_cannot_resample():
    generator = np.random.default_rng(6)
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        bootstrap(np.ones((1, 5)), True, generator)
    with pytest.raises(ValueError, match=r"got shape \(0, 5\)"):
        bootstrap(np.ones((0, 5)), False, generator)
    with pytest.raises(ValueError, match="num_resamples must be at least 1, got 0"):
        bootstrap(np.ones((1, 5)), False, generator, num_resamples=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="between 0 and 1"):
        t_interval([1.0, 2.0], confidence)
