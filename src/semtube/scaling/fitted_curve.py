"""A learning curve's constants with their intervals, and whether its floor is known at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from semtube.scaling.learning_curve import Curve, fit_curve
from semtube.scaling.resampling import drawn_seeds, of_resamples, seed_stretch

#: Resamples of a fitted curve; each is an optimisation.
NUM_FITS = 300
#: A floor whose interval spans more than this share of the lowest loss is not identified.
FLOOR_SPAN = 0.5
#: At the right end: a reducible loss below this share of the floor counts as none.
REDUCIBLE = 0.1
#: At the left end: a slope below this share of the curve's counts as not begun.
BEGUN = 0.5

# Shape letters: F training set sizes, S seeds, R resamples.


@dataclass(frozen=True)
class FittedCurve:
    """A curve and where its constants may lie: (low, high), None for one seed.

    Args:
        is_floor_identified: whether the floor's interval spans at most half of the lowest mean
            loss; None for one seed. Where it does not, no ratio to the floor may be told.
        withheld: why there are no intervals; empty where there are.
    """

    curve: Curve
    scale: tuple[float, float] | None
    exponent: tuple[float, float] | None
    floor: tuple[float, float] | None
    is_floor_identified: bool | None
    withheld: str = ""


def fit_seeds(
    sizes_F: np.ndarray, losses_FS: np.ndarray, drawn_S: np.ndarray, near: Curve | None = None
) -> Curve:
    """The curve through the runs of drawn seeds, see `fit_curve`.

    One baseline is held against several arms, on the same resamples: each is fitted once.
    """
    losses = tuple(losses_FS[:, drawn_S].reshape(-1))
    return _fit_once(tuple(np.repeat(sizes_F, len(drawn_S))), losses, near)


@lru_cache(maxsize=4096)
def _fit_once(sizes: tuple[float, ...], losses: tuple[float, ...], near: Curve | None) -> Curve:
    return fit_curve(np.array(sizes), np.array(losses), near=near)


def fit_with_intervals(
    sizes_F: np.ndarray,
    losses_FS: np.ndarray,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_FITS,
    generator: np.random.Generator,
) -> FittedCurve:
    """The curve through all runs, with percentile intervals over seeds.

    Each resample draws seeds, the same at all sizes: runs, never points of one run. Deviations are
    stretched for few seeds: of scale and exponent in logs, of the floor as it is, never below 0.

    Raises:
        ValueError: losses that are not (sizes, seeds), no seeds, or what `fit_curve` refuses.

    Source: the threshold of half the lowest loss is ours, as a curve that far from its floor fits
        many floors alike.
    """
    sizes_F, losses_FS = np.asarray(sizes_F, dtype=float), np.asarray(losses_FS, dtype=float)
    if losses_FS.ndim != 2 or losses_FS.shape[0] != len(sizes_F) or losses_FS.shape[1] == 0:
        raise ValueError(
            f"wanted losses (sizes, seeds) for {len(sizes_F)} sizes, got {losses_FS.shape}"
        )
    num_seeds = losses_FS.shape[1]
    curve = fit_seeds(sizes_F, losses_FS, np.arange(num_seeds))
    if num_seeds == 1:
        why = "one seed says nothing about how seeds differ"
        return FittedCurve(curve, None, None, None, None, why)

    def constants(drawn_S: np.ndarray) -> np.ndarray:
        return _in_logs(fit_seeds(sizes_F, losses_FS, drawn_S, near=curve))

    drawn_RS = drawn_seeds(num_seeds, num_resamples, generator)
    whole = _in_logs(curve)
    deviations = of_resamples(constants, drawn_RS) - whole
    stretched = whole + seed_stretch(num_seeds, confidence) * deviations
    tail = (1 - confidence) / 2
    low, high = np.quantile(stretched, [tail, 1 - tail], axis=0)
    floor = (max(0.0, float(low[2])), max(0.0, float(high[2])))
    with np.errstate(over="ignore"):  # a scale far from the data may be any
        low, high = np.exp(low), np.exp(high)
    return FittedCurve(
        curve,
        scale=(float(low[0]), float(high[0])),
        exponent=(float(low[1]), float(high[1])),
        floor=floor,
        is_floor_identified=bool(floor[1] - floor[0] <= FLOOR_SPAN * losses_FS.mean(axis=1).min()),
    )


def _in_logs(curve: Curve) -> np.ndarray:
    return np.array([np.log(curve.scale), np.log(curve.exponent), curve.floor])


Region = Literal["small data", "power law", "irreducible"]


def region_labels(curve: Curve, sizes_F: np.ndarray, means_F: Sequence[float]) -> list[Region]:
    """Where each size lies on the curve.

    `small data` from the left end while the measured slope to the next size, in logs, is below half
    the curve's; `irreducible` from the right end where scale * m^(-exponent) is below a tenth of
    the floor; `power law` between. A floor that is not identified makes `irreducible` a guess.

    Args:
        sizes_F: rising.
        means_F: mean loss at each.

    Source: Hestness et al. (2017), arXiv 1712.00409 (the three regions; the thresholds are ours).
    """
    sizes_F = np.asarray(sizes_F, dtype=float)
    laws_F = curve.predict(sizes_F)
    measured = np.diff(np.log(means_F)) / np.diff(np.log(sizes_F))
    fitted = np.diff(np.log(laws_F)) / np.diff(np.log(sizes_F))
    labels: list[Region] = ["power law"] * len(sizes_F)
    for f in range(len(sizes_F) - 1):
        if measured[f] <= BEGUN * fitted[f]:  # both fall: the steeper is the smaller number
            break
        labels[f] = "small data"
    for f in reversed(range(len(sizes_F))):
        if laws_F[f] - curve.floor >= REDUCIBLE * curve.floor:
            break
        labels[f] = "irreducible"
    return labels
