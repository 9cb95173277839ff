"""The data multiplier on curves where it is known."""

import numpy as np
import pytest
from scipy import stats

from semtube.scaling.data_multiplier import data_multipliers

SIZES = 250 * 2.0 ** np.arange(6)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def curve(scale: float, noise: float, generator: np.random.Generator, floor: float = 0.05):
    losses = floor + scale * SIZES[:, None] ** -0.5
    return losses + generator.normal(0, noise, (len(SIZES), 3))


def by_method(found, method):
    return [m for m in found if m.method == method]


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_half_the_scale_at_exponent_a_half_needs_four_times_fewer(higher_is_better) -> None:
    base, arm = curve(4, 0, rng()), curve(2, 0, rng())
    if higher_is_better:
        base, arm = 1 - base, 1 - arm
    found = data_multipliers(
        SIZES, base, arm, higher_is_better=higher_is_better, num_resamples=50, generator=rng()
    )
    for method, tolerance in (("interpolation", 1e-9), ("fit", 1e-4)):
        values = by_method(found, method)
        assert [m.num_examples for m in values] == list(SIZES)
        # At 250 and 500 examples the baseline's level lies below the arm's smallest size.
        assert [m.bound for m in values[:2]] == ["at least"] * 2
        assert [m.limit for m in values[:2]] == pytest.approx([1.0, 2.0])
        assert all(m.extrapolates and m.value is None for m in values[:2])
        assert [m.value for m in values[2:]] == pytest.approx([4.0] * 4, rel=tolerance)


def test_turned_round_the_multiplier_is_its_inverse() -> None:
    found = data_multipliers(
        SIZES, curve(2, 0, rng()), curve(4, 0, rng()), higher_is_better=False,
        num_resamples=50, generator=rng(),
    )  # fmt: skip
    for method in ("interpolation", "fit"):
        values = by_method(found, method)
        assert [m.value for m in values[:4]] == pytest.approx([0.25] * 4, rel=1e-4)
        assert [m.bound for m in values[4:]] == ["at most"] * 2
        assert [m.limit for m in values[4:]] == pytest.approx([0.5, 1.0])


def test_identical_arms_give_exactly_one_even_where_the_curve_is_flat_or_falls() -> None:
    scores = np.array([[0.1, 0.2], [0.4, 0.4], [0.4, 0.4], [0.3, 0.35], [0.6, 0.7], [0.6, 0.7]])
    found = data_multipliers(
        SIZES, scores, scores, higher_is_better=True, num_resamples=50, generator=rng()
    )
    assert all(m.value == 1.0 for m in found)
    assert all(m.low == m.high == 1.0 for m in by_method(found, "interpolation"))


@pytest.mark.parametrize("scores", [np.zeros((6, 2)), np.linspace(0.5, 0.4, 12).reshape(6, 2)])
def test_a_baseline_that_gets_no_better_has_no_multiplier(scores) -> None:
    found = data_multipliers(
        SIZES, scores, scores + 0.1, higher_is_better=True, num_resamples=50, generator=rng()
    )
    assert len(found) == 12
    for m in found:
        assert (m.value, m.low, m.high, m.limit) == (None, None, None, None)
        assert m.note == "the baseline's score gets no better with more examples"


def test_one_seed_has_no_interval_and_three_sizes_no_fit() -> None:
    base, arm = curve(4, 0, rng())[:3, :1], curve(3, 0, rng())[:3, :1]
    found = data_multipliers(
        SIZES[:3], base, arm, higher_is_better=False, num_resamples=20, generator=rng()
    )
    assert all(m.low is None and m.high is None for m in found)
    assert all("fewer than 4 sizes" in m.note for m in by_method(found, "fit"))
    zero = np.where(SIZES[:, None] > 3000, 1.0, curve(0.5, 0, rng()))
    found = data_multipliers(
        SIZES, zero, zero, higher_is_better=True, num_resamples=20, generator=rng()
    )
    assert all("error of 0" in m.note for m in by_method(found, "fit"))


@pytest.mark.parametrize(
    ("sizes", "shape", "wanted"),
    [(SIZES[::-1], (6, 3), "must rise"), (SIZES, (5, 3), "for 6 sizes"), (SIZES, (6, 0), "sizes")],
)
def test_bad_input(sizes, shape, wanted) -> None:
    with pytest.raises(ValueError, match=wanted):
        data_multipliers(
            sizes, np.ones(shape), np.ones(shape), higher_is_better=True, generator=rng()
        )


def test_what_a_seed_does_to_both_arms_leaves_no_width() -> None:
    """Seeds that scale both arms' errors alike: paired, every resample has k = 4."""
    seeds = np.array([0.8, 1.0, 1.3])
    base, arm = (scale * SIZES[:, None] ** -0.5 * seeds for scale in (4.0, 2.0))
    found = data_multipliers(SIZES, base, arm, higher_is_better=False, generator=rng())
    for method in ("interpolation", "fit"):
        for m in by_method(found, method)[2:]:
            assert [m.low, m.value, m.high] == pytest.approx([4.0] * 3, rel=1e-3)


def test_identical_noisy_arms_are_one_by_fit_and_their_intervals_too() -> None:
    base = curve(4, 0.01, rng())
    found = data_multipliers(SIZES, base, base, higher_is_better=False, generator=rng())
    assert all(m.value == 1.0 for m in found)
    for m in found:
        assert [m.low, m.high] == pytest.approx([1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("num_seeds", [3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("scale", "truth"), [(4 / 2**0.5, 2.0), (4.0, 1.0)])
def test_interpolated_intervals_hold_the_truth(scale, truth, num_seeds) -> None:
    """At least 95 % less what 300 simulations may miss by chance in one of ten thousand cases.

    Three sizes, so that nothing is fitted and it is quick.
    """
    generator, held, trials, sizes = rng(3), 0, 300, SIZES[:3]
    for _ in range(trials):
        base, arm = (
            0.05 + s * sizes[:, None] ** -0.5 + generator.normal(0, 0.004, (3, num_seeds))
            for s in (4.0, scale)
        )
        found = data_multipliers(
            sizes, base, arm, higher_is_better=False, num_resamples=300, generator=generator
        )
        middle = found[2 if truth > 1 else 1]
        held += middle.low <= truth <= middle.high
    assert held >= stats.binom.ppf(1e-4, trials, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "truth"), [(2.0, 4.0), (4.0, 1.0)])
def test_intervals_hold_the_truth_at_their_rate(scale, truth) -> None:
    """At least 95 % less what 100 simulations may miss by chance in one of a thousand cases."""
    trials, generator = 100, rng(7)
    held = {"interpolation": 0, "fit": 0}
    for _ in range(trials):
        found = data_multipliers(
            SIZES, curve(4, 0.004, generator), curve(scale, 0.004, generator),
            higher_is_better=False, num_resamples=300, generator=generator,
        )  # fmt: skip
        for method in held:
            middle = by_method(found, method)[3]
            held[method] += middle.low <= truth <= middle.high
    assert min(held.values()) >= stats.binom.ppf(1e-3, trials, 0.95), held
