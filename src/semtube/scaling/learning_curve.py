"""A power law plus a constant, fitted to losses against the number of training examples."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import optimize

#: Of the Huber loss, on log residuals.
HUBER_DELTA = 1e-3
#: Starts whose objective lies this close (relatively) to the best one agree with it.
AGREEMENT = 1e-3
#: Fewer sizes cannot tell three parameters.
MIN_SIZES = 4
_EXPONENTS = (0.1, 0.25, 0.5, 1.0, 2.0)
#: Floors to start from, as shares of the lowest loss.
_FLOORS = (0.01, 0.3, 0.6, 0.9)


@dataclass(frozen=True)
class Curve:
    """loss(m) = scale * m^(-exponent) + floor, over m training examples; all three positive.

    Args:
        objective: sum of the Huber losses of the log residuals at the optimum, in units of delta^2.
        gradient_norm: of the objective there, in log parameters: near 0 where a start arrived.
        share_of_starts: those that ended within a thousandth of the best objective.
    """

    scale: float
    exponent: float
    floor: float
    objective: float
    gradient_norm: float
    share_of_starts: float

    def predict(self, num_examples: np.ndarray) -> np.ndarray:
        """The curve's loss."""
        return self.scale * np.asarray(num_examples, dtype=float) ** -self.exponent + self.floor

    def examples_for(self, loss: float) -> float:
        """The number of examples at which the curve has a loss; infinite at or below its floor."""
        if loss <= self.floor:
            return float("inf")
        return float((self.scale / (loss - self.floor)) ** (1 / self.exponent))


def fit_curve(num_examples: np.ndarray, losses: np.ndarray, *, near: Curve | None = None) -> Curve:
    """Fit the law to (size, loss) pairs, each run a pair of its own.

    Minimises the *sum* of Huber(log loss - log law, 1e-3): an average would let the optimizer stop
    early. Twenty starts over exponent and floor, by BFGS in log parameters with exact gradients.

    Args:
        near: for resampled runs: start from this curve and from the best of a few floors only. The
            curve alone would not do, as a floor near 0 has no slope to leave it by.

    Raises:
        ValueError: unequal lengths, fewer than four different sizes, or a value not above 0.

    Source: Hestness et al. (2017), arXiv 1712.00409 (the law); Hoffmann et al. (2022), arXiv
        2203.15556 (Huber loss on logs, many starts).
    """
    m, y = np.asarray(num_examples, dtype=float), np.asarray(losses, dtype=float)
    if m.shape != y.shape or m.ndim != 1:
        raise ValueError(f"wanted as many sizes as losses, got {m.shape} and {y.shape}")
    if len(np.unique(m)) < MIN_SIZES:
        raise ValueError(f"wanted at least {MIN_SIZES} sizes, got {len(np.unique(m))}")
    if not ((m > 0).all() and (y > 0).all() and np.isfinite(m * y).all()):
        raise ValueError("sizes and losses must be finite and above 0")
    centre = np.log(m).mean()  # exponents then hardly change the scale
    log_m, log_y = np.log(m) - centre, np.log(y)
    found = [
        optimize.minimize(
            _objective, start, args=(log_m, log_y), jac=True, method="BFGS", options={"gtol": 1e-5}
        )
        for start in (_starts(y, log_m) if near is None else _few_starts(y, log_m, near, centre))
    ]
    finite = [fit for fit in found if np.isfinite(fit.fun)]
    best = min(finite, key=lambda fit: fit.fun)
    agreeing = [f for f in finite if f.fun <= best.fun * (1 + AGREEMENT) + 1e-12]
    log_scale, log_exponent, log_floor = best.x
    exponent = float(np.exp(log_exponent))
    return Curve(
        scale=float(np.exp(log_scale + exponent * centre)),
        exponent=exponent,
        floor=float(np.exp(log_floor)),
        objective=float(best.fun),
        gradient_norm=float(np.linalg.norm(best.jac)),
        share_of_starts=len(agreeing) / len(found),
    )


def why_unfitted(sizes_F: np.ndarray, losses: np.ndarray) -> str:
    """What keeps losses at these sizes from being fitted; empty where nothing does."""
    if len(sizes_F) < MIN_SIZES:
        return f"fewer than {MIN_SIZES} sizes"
    return "an error of 0 or less, whose log is fitted" if (losses <= 0).any() else ""


def _starts(losses: np.ndarray, log_m: np.ndarray) -> list[np.ndarray]:
    lowest = losses.min()
    starts = []
    for exponent, share in itertools.product(_EXPONENTS, _FLOORS):
        floor = share * lowest
        scale = np.median((losses - floor) * np.exp(exponent * log_m))
        starts.append(np.log([scale, exponent, floor]))
    return starts


def _few_starts(
    losses: np.ndarray, log_m: np.ndarray, near: Curve, centre: float
) -> list[np.ndarray]:
    """The curve at hand, and the best of the straight lines through log(loss - floor)."""
    log_scale = np.log(near.scale) - near.exponent * centre
    tried = []
    for share in (*_FLOORS, 0.97):
        floor = share * losses.min()
        slope, level = np.polyfit(log_m, np.log(losses - floor), 1)
        tried.append(np.array([level, np.log(max(-slope, 0.01)), np.log(floor)]))
    best = min(tried, key=lambda start: _objective(start, log_m, np.log(losses))[0])
    return [np.array([log_scale, np.log(near.exponent), np.log(near.floor)]), best]


def _objective(
    parameters: np.ndarray, log_m: np.ndarray, log_y: np.ndarray
) -> tuple[float, np.ndarray]:
    """Sum of Huber losses and its gradient."""
    log_scale, log_exponent, log_floor = np.clip(parameters, -60.0, 60.0)
    exponent = np.exp(min(log_exponent, 5.0))
    power = log_scale - exponent * log_m
    law = np.logaddexp(power, log_floor)
    residual = law - log_y
    # In units of delta, or the optimizer would take a small gradient for none.
    size = np.abs(residual) / HUBER_DELTA
    huber = np.where(size <= 1, 0.5 * size**2, size - 0.5)
    slope = np.clip(residual / HUBER_DELTA, -1, 1) / HUBER_DELTA
    of_power = np.exp(power - law)
    gradient = np.array([
        (slope * of_power).sum(),
        (slope * of_power * -exponent * log_m).sum(),
        (slope * (1 - of_power)).sum(),
    ])  # fmt: skip
    return float(huber.sum()), gradient
