"""The fit finds curves that are known, and is not caught by averaging."""

import numpy as np
import pytest

from semtube.scaling.learning_curve import Curve, fit_curve

SIZES = 250 * 2.0 ** np.arange(6)


# Every two values of two constants meet once.
@pytest.mark.parametrize(
    ("scale", "exponent", "floor"),
    [
        (0.5, 0.1, 1e-3), (5.0, 0.1, 0.2), (300.0, 0.1, 2.0),
        (0.5, 0.35, 0.2), (5.0, 0.35, 2.0), (300.0, 0.35, 1e-3),
        (0.5, 1.2, 2.0), (5.0, 1.2, 1e-3), (300.0, 1.2, 0.2),
    ],
)  # fmt: skip
def test_a_curve_without_noise_is_found(scale, exponent, floor) -> None:
    curve = fit_curve(SIZES, scale * SIZES**-exponent + floor)
    truth = scale * (2 * SIZES) ** -exponent + floor
    assert curve.predict(2 * SIZES) == pytest.approx(truth, rel=1e-3)
    assert curve.gradient_norm < 1e-6
    assert curve.share_of_starts > 0.2


def test_examples_for_a_loss_inverts_the_curve() -> None:
    curve = fit_curve(SIZES, 5 * SIZES**-0.5 + 0.1)
    for size in SIZES:
        assert curve.examples_for(float(curve.predict(size))) == pytest.approx(size, rel=1e-6)
    assert curve.examples_for(curve.floor) == float("inf")


def test_noise_leaves_the_constants_unbiased_within_their_spread() -> None:
    generator = np.random.default_rng(0)
    sizes = np.repeat(SIZES, 3)
    truth = 5 * sizes**-0.5 + 0.1
    found = [
        fit_curve(sizes, truth * np.exp(generator.normal(0, 0.01, len(sizes)))) for _ in range(12)
    ]
    exponents = np.array([curve.exponent for curve in found])
    error = exponents.std(ddof=1) / len(found) ** 0.5
    assert abs(exponents.mean() - 0.5) < 5 * error + 0.02
    # Slopes of single residuals are up to 1,000 here.
    assert all(curve.gradient_norm < 1e-2 for curve in found)


def test_a_resample_is_fitted_as_well_from_any_curve_as_from_all_starts() -> None:
    """Also from a curve whose floor is nothing, which has no slope there."""
    generator = np.random.default_rng(3)
    sizes = np.repeat(SIZES, 3)
    nothing = Curve(5.0, 0.3, 1e-18, 0.0, 0.0, 1.0)
    for floor in (0.01, 0.1, 1.0):
        noisy = (5 * sizes**-0.5 + floor) * np.exp(generator.normal(0, 0.02, len(sizes)))
        best = fit_curve(sizes, noisy)
        for near in (nothing, best, Curve(5.0, 0.5, floor, 0.0, 0.0, 1.0)):
            assert fit_curve(sizes, noisy, near=near).objective <= best.objective * 1.001


@pytest.mark.parametrize(
    ("sizes", "losses", "wanted"),
    [
        ([1, 2, 3], [1, 2, 3], "at least 4 sizes"),
        ([1, 2, 3, 4], [1, 2, 3], "as many sizes"),
        ([1, 2, 3, 4], [1, 2, 3, 0], "above 0"),
        ([1, 2, 3, 4], [1, 2, 3, float("nan")], "above 0"),
    ],
)
def test_bad_input(sizes, losses, wanted) -> None:
    with pytest.raises(ValueError, match=wanted):
        fit_curve(np.array(sizes), np.array(losses))
