"""How much was recovered, and from how many strings on.

Shapes: K codes, v symbols; G grammars, P numbers of strings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_CHUNK = 1 << 20


def hungarian_accuracy(
    codes: np.ndarray, latents: np.ndarray, *, num_codes: int, num_features: int
) -> float:
    """Share of nodes that are right under the best one-to-one map from codes to symbols.

    1 = the latents are recovered up to names; about 1/v = nothing is. With more codes than
    symbols, only v codes can be matched: split symbols lower the score.

    Args:
        codes: whole numbers below num_codes, any shape.
        latents: the true symbols, the same shape.

    Raises:
        ValueError: unequal shapes, nothing to score, or a value out of range.

    Source: arXiv 2605.27734, sections 3 and E.
    """
    from scipy.optimize import linear_sum_assignment

    if codes.shape != latents.shape or not codes.size:
        raise ValueError(f"codes and latents must be alike, got {codes.shape} and {latents.shape}")
    for name, values, limit in (("codes", codes, num_codes), ("latents", latents, num_features)):
        if values.min() < 0 or values.max() >= limit:
            raise ValueError(
                f"{name} must be 0 to {limit - 1}, got {values.min()} to {values.max()}"
            )
    table_KV = np.zeros(num_codes * num_features, dtype=np.int64)
    flat_codes, flat_latents = codes.ravel(), latents.ravel()
    for start in range(0, codes.size, _CHUNK):  # pairs of numbers are wider than symbols
        stop = start + _CHUNK
        pairs = flat_codes[start:stop].astype(np.intp) * num_features + flat_latents[start:stop]
        table_KV += np.bincount(pairs, minlength=len(table_KV))
    table_KV = table_KV.reshape(num_codes, num_features)
    rows, columns = linear_sum_assignment(table_KV, maximize=True)
    return float(table_KV[rows, columns].sum() / codes.size)


def crossing(num_strings: Sequence[int], accuracies: Sequence[float], level: float) -> float:
    """The smallest number of strings at which a curve reaches a level.

    Between the last point below and the first at or above, the accuracy is taken as linear in
    log P. The first point of the grid if that is at the level already (the truth may then be
    lower), infinity if no point is.

    Args:
        num_strings: increasing.

    Raises:
        ValueError: unequal lengths, no points, or an order that does not increase.
    """
    if len(num_strings) != len(accuracies) or not num_strings:
        raise ValueError(
            f"one accuracy for each number of strings, got {len(accuracies)} for {len(num_strings)}"
        )
    if any(b <= a for a, b in pairwise(num_strings)):
        raise ValueError(f"num_strings must increase, got {list(num_strings)}")
    for place, accuracy in enumerate(accuracies):
        if accuracy >= level:
            if place == 0:
                return float(num_strings[0])
            before = accuracies[place - 1]
            share = (level - before) / (accuracy - before)
            low, high = math.log(num_strings[place - 1]), math.log(num_strings[place])
            return math.exp(low + share * (high - low))
    return math.inf


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval; infinite where too few grammars crossed."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Plain values; None for infinity, which JSON lacks."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {name: x if math.isfinite(x) else None for name, x in values.items()}


def log_median(values: np.ndarray) -> np.ndarray:
    """Median over the last axis, in logs: of two middle values the geometric mean."""
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    return np.sqrt(ordered[..., (count - 1) // 2] * ordered[..., count // 2])


def resampled_medians(
    values_G: Sequence[float], generator: np.random.Generator, *, num_resamples: int = 10_000
) -> np.ndarray:
    """(1 + resamples,) median over grammars: of all of them, then of every bootstrap resample.

    Quantities of the same grammars stay paired if each gets a generator in the same state;
    quantities of different grammars need generators of their own.

    Raises:
        ValueError: no grammar.
    """
    values = np.asarray(values_G, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"one value for each grammar, at least one, got shape {values.shape}")
    draws = generator.integers(len(values), size=(num_resamples, len(values)))
    return np.concatenate([[log_median(values)], log_median(values[draws])])


def bootstrap_estimate(numbers: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """The first number, with the percentile interval of the rest.

    Undefined ones (infinity over infinity) count as infinite.
    """
    defined = np.where(np.isnan(numbers), math.inf, numbers)
    tail = (1 - confidence) / 2
    # Values that occur, not blends: infinity cannot be blended.
    low, high = np.quantile(defined[1:], [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(defined[0]), float(low), float(high))


def log_log_slope(x: Sequence[float], medians: Sequence[np.ndarray]) -> np.ndarray:
    """(1 + resamples,) least-squares slope of log median against log x, resample by resample."""
    centred = np.log(x) - np.mean(np.log(x))
    with np.errstate(invalid="ignore"):
        return np.tensordot(centred, np.log(np.stack(medians)), axes=1) / (centred**2).sum()
