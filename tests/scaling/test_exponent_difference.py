"""The difference of two curves' exponents, where it is known."""

import numpy as np
import pytest
from scipy import stats

from semtube.scaling.exponent_difference import exponent_difference

SIZES = 250 * 2.0 ** np.arange(6)


def losses(scale, exponent, *, noise=0.0, num_seeds=3, generator=None, floor=0.05):
    law = scale * SIZES[:, None] ** -exponent + floor
    generator = generator or np.random.default_rng(0)
    return law * np.exp(generator.normal(0, noise, (len(SIZES), num_seeds)))


def difference(baseline, arm, **settings):
    return exponent_difference(SIZES, baseline, arm, generator=np.random.default_rng(0), **settings)


def test_a_smaller_scale_bends_nothing_and_a_larger_exponent_does() -> None:
    base = losses(4, 0.5)
    found = difference(base, losses(2, 0.5))
    assert [found.value, found.low, found.high] == pytest.approx([0.0] * 3, abs=1e-4)
    found = difference(base, losses(4, 0.6))
    assert [found.value, found.low, found.high] == pytest.approx([0.1] * 3, rel=1e-3)
    turned = difference(losses(4, 0.6), base)
    assert turned.value == pytest.approx(-found.value)


def test_an_arm_against_itself_has_no_difference_and_no_width() -> None:
    base = losses(4, 0.5, noise=0.01)
    found = difference(base, base)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_one_seed_has_no_interval() -> None:
    found = difference(losses(4, 0.5, num_seeds=1), losses(4, 0.7, num_seeds=1))
    assert found.value == pytest.approx(0.2, rel=1e-3)
    assert found.low is found.high is None


@pytest.mark.parametrize(
    "shapes", [((5, 3), (5, 3)), ((6, 3), (6, 2)), ((6, 0), (6, 0)), ((6,),) * 2]
)
def test_bad_shapes(shapes) -> None:
    with pytest.raises(ValueError, match="wanted two arms of losses"):
        difference(*(np.ones(shape) for shape in shapes))


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.5, 0.6])
def test_intervals_hold_the_truth_at_their_rate(exponent) -> None:
    """At least 95 % less what 60 simulations may miss by chance once in a thousand."""
    trials, generator, held = 60, np.random.default_rng(11), 0
    for _ in range(trials):
        base, arm = (losses(4, b, noise=0.004, generator=generator) for b in (0.5, exponent))
        found = difference(base, arm)
        held += found.low <= exponent - 0.5 <= found.high
    assert held >= stats.binom.ppf(1e-3, trials, 0.95)
