"""Constants with intervals, the floor that is known or not, and the regions of a curve."""

import numpy as np
import pytest
from scipy import stats

from semtube.scaling.fitted_curve import fit_with_intervals, region_labels
from semtube.scaling.learning_curve import Curve, fit_curve

SIZES = 250 * 2.0 ** np.arange(6)


def losses(generator, scale=4.0, exponent=0.5, floor=0.05, noise=0.004, num_seeds=3):
    law = scale * SIZES[:, None] ** -exponent + floor
    return law * np.exp(generator.normal(0, noise, (len(SIZES), num_seeds)))


def fitted(losses_FS, **settings):
    return fit_with_intervals(SIZES, losses_FS, generator=np.random.default_rng(0), **settings)


def coverage(trials: int, num_seeds: int, noise: float) -> np.ndarray:
    """How often the intervals of scale, exponent and floor hold the truth."""
    generator, held = np.random.default_rng(5), np.zeros(3)
    for _ in range(trials):
        found = fitted(losses(generator, noise=noise, num_seeds=num_seeds))
        limits = np.array([found.scale, found.exponent, found.floor])
        truth = np.array([4.0, 0.5, 0.05])
        held += (limits[:, 0] <= truth) & (truth <= limits[:, 1])
    return held / trials


@pytest.mark.slow
@pytest.mark.parametrize(("num_seeds", "trials"), [(3, 100), (5, 20)])
def test_intervals_hold_the_constants_at_their_rate(num_seeds, trials) -> None:
    """At least 95 % less what so many simulations may miss by chance once in ten thousand."""
    assert (
        coverage(trials, num_seeds, 0.004) >= stats.binom.ppf(1e-4, trials, 0.95) / trials
    ).all()


def test_a_floor_is_known_near_it_and_unknown_far_from_it() -> None:
    near = fitted(losses(np.random.default_rng(1), floor=0.5))
    assert near.is_floor_identified
    assert near.floor[0] < 0.5 < near.floor[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_floor_far_below_noisy_losses_is_unknown(seed) -> None:
    """Losses from 2.0 to 1.3 with 10 % noise; some of these fits have a floor of nothing."""
    far = fitted(losses(np.random.default_rng(seed), exponent=0.15, floor=0.3, noise=0.1))
    assert far.is_floor_identified is False
    assert far.floor[1] - far.floor[0] > 0.6
    assert far.floor[0] >= 0


def test_seeds_without_spread_have_intervals_without_width() -> None:
    one = losses(np.random.default_rng(2), noise=0.0, num_seeds=1)
    found = fitted(np.repeat(one, 3, axis=1))
    for limits, value in (
        (found.scale, found.curve.scale),
        (found.exponent, found.curve.exponent),
        (found.floor, found.curve.floor),
    ):
        assert limits == pytest.approx((value, value), rel=1e-3)


def test_one_seed_has_the_curve_alone() -> None:
    one = losses(np.random.default_rng(2), num_seeds=1)
    found = fitted(one)
    assert found.curve == fit_curve(SIZES, one[:, 0])
    assert found.scale is found.exponent is found.floor is found.is_floor_identified is None
    assert found.withheld == "one seed says nothing about how seeds differ"


@pytest.mark.parametrize("shape", [(5, 3), (6,), (6, 0)])
def test_bad_shapes(shape) -> None:
    with pytest.raises(ValueError, match="for 6 sizes"):
        fitted(np.ones(shape))


def law(scale: float, exponent: float, floor: float) -> Curve:
    return Curve(scale, exponent, floor, 0.0, 0.0, 1.0)


def test_regions_by_hand() -> None:
    curve = law(100.0, 1.0, 0.05)
    means = curve.predict(SIZES)
    # 100 / m is below 0.005 from 20,000 on.
    assert region_labels(curve, SIZES, means) == ["power law"] * 6
    sizes = np.append(SIZES, [19_999.0, 20_001.0, 40_000.0])
    labels = region_labels(curve, sizes, curve.predict(sizes))
    assert labels == ["power law"] * 7 + ["irreducible"] * 2
    means[:2] = means[2]  # guessing until the third size
    assert region_labels(curve, SIZES, means) == ["small data"] * 2 + ["power law"] * 4
    means[4] = means[3]  # a plateau elsewhere is none of small data
    assert region_labels(curve, SIZES, means)[2:] == ["power law"] * 4


def test_a_plateau_at_small_sizes_is_seen_through_the_fit() -> None:
    sizes = 250 * 2.0 ** np.arange(10)
    means = 4 * sizes**-0.5 + 0.05
    means[:2] = means[2] * 1.02
    labels = region_labels(fit_curve(sizes, means), sizes, means)
    assert labels == ["small data"] * 2 + ["power law"] * 8
