"""Scores and crossings against brute force and closed forms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from semtube.rhm.scoring import (
    bootstrap_estimate,
    crossing,
    hungarian_accuracy,
    log_log_slope,
    log_median,
    resampled_medians,
)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(0, 1000))
@settings(deadline=None, max_examples=80)
def test_the_best_map_is_found(num_codes, num_features, size, seed):
    generator = np.random.default_rng(seed)
    codes = generator.integers(num_codes, size=(size, 2)).astype(np.uint8)
    latents = generator.integers(num_features, size=(size, 2)).astype(np.uint8)
    # Pad the smaller alphabet with names that nothing has, then try all one-to-one maps.
    names = max(num_codes, num_features)
    best = max(
        (np.array(image)[codes] == latents).mean() for image in itertools.permutations(range(names))
    )
    found = hungarian_accuracy(codes, latents, num_codes=num_codes, num_features=num_features)
    assert found == pytest.approx(best)


def test_pieces_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    codes, latents = generator.integers(5, size=(2, 1000))
    whole = hungarian_accuracy(codes, latents, num_codes=5, num_features=5)
    monkeypatch.setattr("semtube.rhm.scoring._CHUNK", 7)
    assert hungarian_accuracy(codes, latents, num_codes=5, num_features=5) == whole
    assert 0.2 < whole < 0.35


def test_renaming_costs_nothing_and_splitting_does():
    latents = np.arange(40).reshape(4, 10) % 4
    renamed = (latents + 3) % 4
    assert hungarian_accuracy(renamed, latents, num_codes=4, num_features=4) == 1
    split = np.where(np.arange(40).reshape(4, 10) < 20, latents, latents + 4)
    assert hungarian_accuracy(split, latents, num_codes=8, num_features=4) == 0.5


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="must be alike"):
        hungarian_accuracy(np.zeros((2, 2)), np.zeros((2, 3)), num_codes=2, num_features=2)
    with pytest.raises(ValueError, match="codes must be 0 to 1, got 0 to 2"):
        hungarian_accuracy(np.array([0, 2]), np.array([0, 1]), num_codes=2, num_features=2)


def test_a_line_in_log_p_crosses_where_it_should():
    points = [100, 200, 800, 1600]
    values = [0.1 * math.log2(p / 100) + 0.2 for p in points]
    # 0.2 + 0.1 log2(P / 100) = 0.45 at P = 100 x 2^2.5.
    assert crossing(points, values, 0.45) == pytest.approx(100 * 2**2.5)
    assert crossing(points, values, values[2]) == pytest.approx(800)


def test_first_of_several_crossings_and_both_ends():
    assert crossing([1, 2, 4, 8], [0.0, 0.6, 0.3, 0.9], 0.5) < 2
    assert crossing([3, 6], [0.5, 0.4], 0.5) == 3
    assert crossing([3, 6], [0.1, 0.4], 0.5) == math.inf


@pytest.mark.parametrize(
    ("points", "values"), [([], []), ([1, 2], [0.5]), ([2, 2], [0.1, 0.9]), ([4, 2], [0.1, 0.9])]
)
def test_bad_curves_are_refused(points, values):
    with pytest.raises(ValueError, match=r"must increase|for each number"):
        crossing(points, values, 0.5)


def test_log_median_of_even_and_odd_and_infinite():
    assert log_median(np.array([8.0, 1.0, 2.0])) == 2
    assert log_median(np.array([8.0, 1.0, 2.0, 100.0])) == pytest.approx(4)
    assert log_median(np.array([1.0, 2.0, math.inf, math.inf])) == math.inf
    assert log_median(np.array([1.0, 2.0, 3.0, math.inf])) == pytest.approx(math.sqrt(6))


def test_bootstrap_of_a_median_is_the_binomial_of_order_statistics():
    values = np.exp(np.arange(7.0))
    numbers = resampled_medians(values, np.random.default_rng(0), num_resamples=40_000)
    assert numbers[0] == values[3]
    # The resampled median is at most the k-th value if 4 or more of 7 draws are.
    for k in range(7):
        expected = stats.binom.sf(3, 7, (k + 1) / 7)
        share = (numbers[1:] <= values[k] * 1.0001).mean()
        assert abs(share - expected) < 4 * math.sqrt(0.25 / 40_000)
    estimate = bootstrap_estimate(numbers)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.low > values[0]


def test_equal_generators_pair_and_a_ratio_of_proportional_values_has_no_width():
    values = np.array([1.0, 5.0, 20.0, 3.0])
    pairs = [resampled_medians(x, np.random.default_rng(1)) for x in (values, 7 * values)]
    estimate = bootstrap_estimate(pairs[1] / pairs[0])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((7, 7, 7))


def test_intervals_with_grammars_that_never_cross():
    numbers = resampled_medians([100, 200, 300, math.inf], np.random.default_rng(0))
    estimate = bootstrap_estimate(numbers)
    assert math.isfinite(estimate.value)
    assert estimate.high == math.inf
    assert estimate.as_json()["high"] is None
    undefined = bootstrap_estimate(np.array([math.nan, math.nan, 1.0]))
    assert undefined.value == math.inf


def test_the_slope_of_a_power_law_is_its_power():
    x = [2, 3, 4, 8]
    medians = [np.full(5, 3.0 * m**2.5) for m in x]
    np.testing.assert_allclose(log_log_slope(x, medians), 2.5)
