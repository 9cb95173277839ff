"""Collapse: how many directions the states fill, and how the spectrum falls off.

Shape letters: N states, D hidden size, K singular values, R ranks of a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from semtube.geometry.draws import generator_of
from semtube.geometry.moments import Moments, singular_values
from semtube.geometry.rounding import is_one_point
from semtube.objectives.directions import MIN_LENGTH

#: Below this R^2 a spectrum's tail is no power law: a Gaussian matrix reaches .94 to .96. Ours.
POWER_LAW_R_SQUARED = 0.99
#: Ranks of the tail, as shares of min(N, D). Ours: the paper names none.
TAIL = (0.1, 0.6)


@dataclass(frozen=True)
class TailFit:
    """log sigma_k = intercept - slope log k, by least squares over the ranks of a window.

    Args:
        slope: alpha; 0 for a flat spectrum.
        r_squared: 1 where the line is exact; 0 where all values are equal (no slope to explain).
        first_rank, last_rank: of the window, from 1, both in it.
    """

    slope: float
    r_squared: float
    first_rank: int
    last_rank: int

    @property
    def is_power_law(self) -> bool:
        """Whether the line fits; if not, its slope is not to be quoted."""
        return self.r_squared >= POWER_LAW_R_SQUARED


def spectral_tail(
    values_K: Tensor, num_rows: int, window: tuple[float, float] = TAIL
) -> TailFit | None:
    """Decay of singular values, largest first: alpha = - d log sigma_k / d log k.

    Not 0 for pure noise, and depends on the number of rows (.34, .24, .17 for Gaussian rows,
    1,024, 2,048 and 4,096 at D = 512): compare equal numbers only, and print `gaussian_rows`
    beside it.

    Args:
        values_K: of the centred states, see `Spectrum`.
        num_rows: N; ranks beyond min(N - 1, K) are 0 by construction and left out.

    Returns:
        None where fewer than three values of the window are above rounding.

    Raises:
        ValueError: not 0 <= window[0] < window[1] <= 1.

    Source: SPINAL's contraction score; the window and the R^2 are ours, as it states neither.
    """
    low, high = window
    if not 0 <= low < high <= 1:
        raise ValueError(f"window is {window}: wanted two shares, the first less, in [0, 1]")
    number = min(num_rows - 1, len(values_K))
    first, last = max(1, round(low * number)), round(high * number)
    tail_R = values_K[first - 1 : last].double()
    if len(tail_R) < 3 or float(tail_R[-1]) <= 1e-7 * float(values_K[0]):
        return None
    x_R = torch.arange(first, last + 1, dtype=torch.float64, device=tail_R.device).log()
    y_R = tail_R.log()
    x_R, y_R = x_R - x_R.mean(), y_R - y_R.mean()
    slope = float(x_R @ y_R / (x_R @ x_R))
    total = float(y_R @ y_R)
    explained = slope**2 * float(x_R @ x_R)
    # Equal values up to rounding leave nothing to explain.
    r_squared = explained / total if total > 1e-20 * len(y_R) else 0.0
    return TailFit(-slope, r_squared, first, last)


@dataclass(frozen=True)
class Spectrum:
    """What the centred states of a set fill.

    Args:
        num_rows: N states, N_d of them with a direction.
        singular_values: (D,) of the centred states, largest first; 0 where all states are equal
            but for rounding (`rounding.ROUNDING`).
        effective_rank: exp of the entropy of the singular values' shares, 1 to D; 0 where all
            states are equal.
        first_share: variance along the first direction over all variance, 1 / D to 1; 0 where
            there is none.
        anisotropy: mean cosine of two different states, uncentred, -1 / (N_d - 1) to 1; 0 for
            directions spread evenly, 1 for one direction; None for fewer than two of them.
        num_without_direction: states too short to have one, left out of the anisotropy.
    """

    num_rows: int
    singular_values: Tensor
    effective_rank: float
    first_share: float
    anisotropy: float | None
    num_without_direction: int

    @property
    def is_one_point(self) -> bool:
        """Whether all states are equal but for rounding."""
        return self.effective_rank == 0

    def tail(self, window: tuple[float, float] = TAIL) -> TailFit | None:
        """See `spectral_tail`."""
        return spectral_tail(self.singular_values, self.num_rows, window)


class SpectrumOfStates:
    """Takes in states in batches and gives their `Spectrum`; memory D^2.

    Source: effective rank, Roy and Vetterli (2007), of the centred states; anisotropy, Ethayarajh
        (2019), arXiv 1909.00512, over all pairs instead of drawn ones.
    """

    def __init__(self) -> None:
        self._moments = Moments()
        self._directions_D: Tensor | float = 0.0
        self._num_directions = 0

    @property
    def num_rows(self) -> int:
        """States so far."""
        return self._moments.num_rows

    @property
    def deviation_D(self) -> Tensor:
        """(D,) standard deviation of every coordinate, over all states so far.

        Raises:
            ValueError: no states.
        """
        return (self._moments.scatter_DD.diagonal() / self.num_rows).sqrt()

    @property
    def width(self) -> int:
        """D.

        Raises:
            ValueError: no states.
        """
        return len(self._moments.mean_D)

    def add(self, states_ND: Tensor) -> None:
        """Take in states (N, D), see `Paths.rows`."""
        self._moments.add(states_ND)
        states_ND = states_ND.detach().double()
        length_N = torch.linalg.vector_norm(states_ND, dim=-1)
        some_N = length_N > MIN_LENGTH
        self._directions_D = self._directions_D + (states_ND[some_N] / length_N[some_N, None]).sum(
            0
        )
        self._num_directions += int(some_N.sum())

    def result(self) -> Spectrum:
        """Of all states so far.

        Raises:
            ValueError: no states.
        """
        scatter_DD = self._moments.scatter_DD
        values_D = singular_values(scatter_DD)
        collapsed = is_one_point(float(scatter_DD.trace()), float(self._moments.gram_DD.trace()))
        if collapsed:
            values_D = torch.zeros_like(values_D)
        number = self._num_directions
        anisotropy = None
        if number >= 2:
            total_D = torch.as_tensor(self._directions_D)
            anisotropy = (float(total_D @ total_D) - number) / (number * (number - 1))
        return Spectrum(
            self._moments.num_rows,
            values_D,
            effective_rank(values_D),
            first_share(values_D),
            anisotropy,
            self._moments.num_rows - number,
        )


def effective_rank(values_K: Tensor) -> float:
    """exp(- sum p log p), p the shares of values that are at least 0; 0 where all are 0.

    Source: Roy and Vetterli (2007), "The effective rank".
    """
    total = values_K.sum()
    if total <= 0:
        return 0.0
    share_K = values_K / total
    return math.exp(-float(torch.special.xlogy(share_K, share_K).sum()))


def first_share(values_K: Tensor) -> float:
    """sigma_1^2 over the sum of squares of singular values, largest first; 0 where all are 0."""
    total = float(values_K.square().sum())
    return float(values_K[0] ** 2) / total if total > 0 else 0.0


def gaussian_rows(num_rows: int, width: int, *, seed: int = 0) -> Tensor:
    """(N, D) independent standard normal numbers: the null of every spectrum, at its own shape."""
    generator = generator_of(seed, "gaussian rows")
    return torch.randn(num_rows, width, generator=generator)


@lru_cache(maxsize=4)
def _gaussian_scatter(num_rows: int, width: int, seed: int) -> Tensor:
    moments = Moments()
    moments.add(gaussian_rows(num_rows, width, seed=seed))
    return moments.scatter_DD


def independent_coordinates(deviation_D: Tensor, num_rows: int, *, seed: int = 0) -> Spectrum:
    """Spectrum of N normal rows whose coordinates have these deviations and nothing in common.

    What shuffling every coordinate over the states would leave of theirs: the rank and the shares
    that come of coordinates of unlike size alone. Drawn, since a stream's states are not held. No
    anisotropy: that of shuffled states is of more than their variances.

    Args:
        deviation_D: see `SpectrumOfStates.deviation_D`.
    """
    scatter_DD = _gaussian_scatter(num_rows, len(deviation_D), seed).to(deviation_D)
    values_D = singular_values(deviation_D[:, None] * scatter_DD * deviation_D)
    return Spectrum(num_rows, values_D, effective_rank(values_D), first_share(values_D), None, 0)
