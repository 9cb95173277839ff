"""How large a difference must be before this many seeds are likely to find it."""

from __future__ import annotations

import math

from scipy import integrate, optimize, stats


def detectable_difference(
    deviation: float, num_pairs: int, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The true mean difference that a two-sided paired t test finds with this power.

    With S pairs, t has S - 1 degrees of freedom and noncentrality difference * sqrt(S) / deviation;
    the power is the chance that |t| exceeds Student's quantile of 1 - alpha / 2. In the unit of the
    deviation, which is itself uncertain where it comes from few pairs.

    Returns:
        None for one pair; 0 for a deviation of 0.

    Raises:
        ValueError: a negative deviation, no pairs, or alpha and power not in (0, 1).
    """
    if deviation < 0 or num_pairs < 1 or not (0 < alpha < 1 and alpha < power < 1):
        raise ValueError(
            "wanted deviation >= 0, num_pairs >= 1 and 0 < alpha < power < 1, got "
            f"{deviation}, {num_pairs}, {alpha}, {power}"
        )
    if num_pairs == 1:
        return None
    if deviation == 0:
        return 0.0
    degrees = num_pairs - 1
    bound = float(stats.t.ppf(1 - alpha / 2, degrees))
    found = optimize.root_scalar(
        lambda shift: _power(shift, bound, degrees) - power, bracket=(0.0, 10.0 * (bound + 1.0))
    )
    return float(found.root * deviation / math.sqrt(num_pairs))


def _power(shift: float, bound: float, degrees: int) -> float:
    """P(|t| > bound) of Student's t around `shift`.

    r is the ratio of the estimated to the true deviation (chi / sqrt(degrees)): the mean is found
    where it exceeds bound * r. scipy's noncentral t has no value for few degrees.
    """
    root = math.sqrt(degrees)

    def found(r: float) -> float:
        tails = stats.norm.cdf(shift - bound * r) + stats.norm.cdf(-shift - bound * r)
        return float(tails * stats.chi.pdf(r * root, degrees) * root)

    # Where the density ends; the integrand is smooth in between.
    end = float(stats.chi.ppf(1 - 1e-12, degrees)) / root
    return float(integrate.quad(found, 0.0, end, limit=200)[0])
