"""Confidence intervals: of a rate, of a mean over seeds, of scores over seeds and test rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """The range from `low` to `high`, in the unit of what it is an interval of.

    Over repeated experiments, a share `confidence` (0 < confidence < 1) of such ranges should hold
    the true value.
    """

    low: float
    high: float
    confidence: float


def wilson_interval(num_right: int, num_examples: int, confidence: float = 0.95) -> Interval:
    """Where the true rate lies, given `num_right` successes in `num_examples` independent trials.

    With p = num_right / num_examples, n = num_examples and z the normal quantile of
    (1 + confidence) / 2, the limits are

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),

    always within [0, 1] and never of zero width: 0 right of n gives [0, z^2 / (n + z^2)].

    Raises:
        ValueError: not 0 <= num_right <= num_examples, no examples, or confidence outside (0, 1).

    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212; `scipy.stats.binomtest`.
    """
    return _binomial_interval(num_right, num_examples, confidence, "wilson")


def exact_interval(num_right: int, num_examples: int, confidence: float = 0.95) -> Interval:
    """Where the true rate lies, held at least as often as `confidence` says.

    The rates at which `num_right` of `num_examples` is not too far in either tail of the binomial:
    wider than Wilson's and never short of its promise, which counts with few rows.

    Raises:
        ValueError: not 0 <= num_right <= num_examples, no examples, or confidence outside (0, 1).

    Source: Clopper and Pearson (1934), Biometrika 26, 404-413; `scipy.stats.binomtest`.
    """
    return _binomial_interval(num_right, num_examples, confidence, "exact")


def _binomial_interval(
    num_right: int, num_examples: int, confidence: float, method: Literal["wilson", "exact"]
) -> Interval:
    _check_confidence(confidence)
    if num_examples < 1 or not 0 <= num_right <= num_examples:
        raise ValueError(
            "wanted 0 <= num_right <= num_examples and at least one example, "
            f"got num_right={num_right}, num_examples={num_examples}"
        )
    limits = stats.binomtest(num_right, num_examples).proportion_ci(confidence, method=method)
    return Interval(float(limits.low), float(limits.high), confidence)


def t_interval(values: Sequence[float], confidence: float) -> Interval | None:
    """Where the mean over all seeds lies, given one value for each of a few seeds.

    mean -+ t(S - 1) * deviation / sqrt(S), where S = len(values), the deviation divides by S - 1,
    and t is Student's quantile of (1 + confidence) / 2 (12.7 for two values at 0.95). Zero width
    where all values are equal; unbounded, so a rate's limits can leave [0, 1].

    Returns:
        None for one value: it says nothing about how seeds differ.

    Raises:
        ValueError: no values, or confidence outside (0, 1).
    """
    _check_confidence(confidence)
    if len(values) == 0:
        raise ValueError("wanted at least one value, got none")
    if len(values) == 1:
        return None
    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    half_width = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * standard_error
    mean = np.mean(values)
    return Interval(float(mean - half_width), float(mean + half_width), confidence)


def are_equal(values: np.ndarray) -> bool:
    """Whether values are equal but for rounding: 0.62 - 0.61 is not 0.61 - 0.60 in the last bit."""
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def no_spread(num_seeds: int) -> str:
    """Why nothing is said of other seeds: the values are one, or all equal."""
    if num_seeds == 1:
        return "one seed says nothing about how seeds differ"
    return f"all {num_seeds} seeds gave the same, so how far seeds differ is unknown"


# Shape letters: S seeds, N test rows, P distinct columns of scores, R resamples.


def bootstrap_interval(
    scores_SN: np.ndarray,
    *,
    over_seeds: bool,
    confidence: float,
    num_resamples: int,
    generator: np.random.Generator,
) -> Interval:
    """Where the mean score lies, given the same test rows scored under every seed.

    Percentiles of the mean of resampled scores. Each resample draws N test rows, the same for all
    seeds: a hard row is hard under every seed, so rows drawn apart for each seed would make S
    seeds look like S test sets. Such an interval speaks of new test rows for these very seeds.

    `over_seeds` adds to each resample the deviation of the mean of S drawn seeds from the mean of
    all, and so speaks of new seeds too. Resampled means of a few seeds spread too little, so that
    deviation is stretched by sqrt(S / (S - 1)) * t(S - 1) / z, with t and z the Student and normal
    quantiles of (1 + confidence) / 2. Chance in single answers then counts among rows and again
    among seeds: where seeds hardly differ the interval is too wide, never too narrow.

    Zero width where all columns of scores are equal: a bootstrap cannot draw what did not occur.

    Args:
        scores_SN: a score or a difference of scores for each seed and test row; few distinct
            columns make it fast, as a resample is one multinomial draw over the distinct columns.
        generator: is advanced.

    Raises:
        ValueError: no scores, `over_seeds` with fewer than two seeds, num_resamples below 1, or
            confidence outside (0, 1).

    Source: Owen (2007), "The pigeonhole bootstrap", Ann. Appl. Stat. 1 (rows and seeds drawn
        independently; here their deviations add up, where Owen scores drawn rows under drawn
        seeds); Hesterberg (2015), "What Teachers Should Know About the Bootstrap", Am. Stat. 69
        (the stretch, there of one sample's percentiles).
    """
    _check_confidence(confidence)
    if scores_SN.ndim != 2 or scores_SN.size == 0:
        raise ValueError(f"scores must be (seeds, test rows), got shape {scores_SN.shape}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    num_rows = scores_SN.shape[1]
    columns_SP, counts_P = np.unique(scores_SN, axis=1, return_counts=True)
    drawn_RP = generator.multinomial(num_rows, counts_P / num_rows, size=num_resamples)
    means_R = (drawn_RP / num_rows) @ columns_SP.mean(axis=0)
    if over_seeds:
        means_R += _seed_deviations(scores_SN.mean(axis=1), confidence, num_resamples, generator)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return Interval(float(low), float(high), confidence)


def _seed_deviations(
    means_S: np.ndarray, confidence: float, num_resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """How far means over drawn seeds lie from the mean over all, stretched for few seeds."""
    num_seeds = len(means_S)
    if num_seeds < 2:
        raise ValueError(f"resampling seeds needs at least 2 of them, got {num_seeds}")
    shares_S = np.full(num_seeds, 1 / num_seeds)
    drawn_RS = generator.multinomial(num_seeds, shares_S, size=num_resamples)
    quantile = (1 + confidence) / 2
    student_to_normal = stats.t.ppf(quantile, num_seeds - 1) / stats.norm.ppf(quantile)
    stretch = np.sqrt(num_seeds / (num_seeds - 1)) * student_to_normal
    return stretch * ((drawn_RS - 1) / num_seeds) @ means_S


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
