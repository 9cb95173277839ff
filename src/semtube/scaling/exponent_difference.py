"""Does an arm's error fall faster with more examples than the baseline's?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semtube.scaling.fitted_curve import NUM_FITS, fit_seeds
from semtube.scaling.resampling import drawn_seeds, of_resamples, seed_stretch

# Shape letters: F training set sizes, S seeds, R resamples.


@dataclass(frozen=True)
class ExponentDifference:
    """b of the arm minus b of the baseline, both of error = a m^(-b) + c.

    Args:
        value: above 0 the arm's error falls faster with more examples.
        low, high: interval over seeds; None for one seed.
    """

    value: float
    low: float | None
    high: float | None


def exponent_difference(
    sizes_F: np.ndarray,
    baseline_FS: np.ndarray,
    arm_FS: np.ndarray,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_FITS,
    generator: np.random.Generator,
) -> ExponentDifference:
    """The difference of the fitted exponents, paired by seed.

    With equal b and c an arm needs the same factor fewer examples at every size. Each arm has a
    floor of its own, which is fitted with b: where it is not identified (see `FittedCurve`) the
    difference tells nothing. The interval resamples seeds, the same for both arms, and is
    stretched for few of them, see `seed_stretch`.

    Args:
        baseline_FS, arm_FS: losses or errors above 0; column s of both is the same seed.
        generator: is advanced.

    Raises:
        ValueError: shapes that do not fit, or what `fit_curve` refuses.

    Source: Hestness et al. (2017), arXiv 1712.00409, who find that better methods mostly move the
        offset and leave the exponent.
    """
    sizes_F = np.asarray(sizes_F, dtype=float)
    arms_AFS = [np.asarray(baseline_FS, dtype=float), np.asarray(arm_FS, dtype=float)]
    base_shape, arm_shape = (arm.shape for arm in arms_AFS)
    num_seeds = base_shape[-1]
    if base_shape != (len(sizes_F), num_seeds) or arm_shape != base_shape or not num_seeds:
        raise ValueError(
            f"wanted two arms of losses ({len(sizes_F)} sizes, seeds), got {base_shape} and "
            f"{arm_shape}"
        )
    whole = [fit_seeds(sizes_F, losses_FS, np.arange(num_seeds)) for losses_FS in arms_AFS]
    value = whole[1].exponent - whole[0].exponent
    if num_seeds == 1:
        return ExponentDifference(value, None, None)

    def difference(drawn_S: np.ndarray) -> np.ndarray:
        base, arm = (
            fit_seeds(sizes_F, losses_FS, drawn_S, near).exponent
            for losses_FS, near in zip(arms_AFS, whole, strict=True)
        )
        return np.array(arm - base)

    drawn_R = of_resamples(difference, drawn_seeds(num_seeds, num_resamples, generator))
    stretched_R = value + seed_stretch(num_seeds, confidence) * (drawn_R - value)
    tail = (1 - confidence) / 2
    low, high = np.quantile(stretched_R, [tail, 1 - tail])
    return ExponentDifference(value, float(low), float(high))
