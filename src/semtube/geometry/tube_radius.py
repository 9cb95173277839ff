"""How wide the tube is: deviation from the chord within windows of tau tokens.

Shape letters: N documents, W windows, R places of r in a window, S places of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from semtube.geometry.measured import Measured
from semtube.geometry.paths import Paths
from semtube.geometry.triangles import triangles

#: Windows at which the tube is measured, in tokens. Ours: the paper says only that some tau exists.
WINDOWS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class TubeRadius:
    """The tube of each document (N, W), see `tube_radius`.

    `largest` and `largest_relative` speak of all windows of at most tau tokens, so they never fall
    with tau; the others of windows of exactly tau.
    """

    largest: Measured
    largest_relative: Measured
    mean_relative: Measured
    parallel: Measured
    perpendicular: Measured
    noise_to_signal: Measured


def tube_radius(paths: Paths, windows: tuple[int, ...] = WINDOWS) -> TubeRadius:
    """Parts of h_r - h_s along and across h_t - h_s, for all s < r < t within a window.

    largest: epsilon(tau) = max |(h_r - h_s) across (h_t - h_s)| over t - s <= tau, in units of the
        states. Definition 3.1 calls a trajectory locally linear if some tau and epsilon bound it;
        every finite one is, so the function of tau is what tells. A maximum grows with the number
        of windows: compare documents of one length.
    largest_relative, mean_relative: the same over |h_t - h_s|, largest and mean (t - s = tau).
        At r half way in many dimensions, 1/2 for independent increments, sqrt(3)/2 for memoryless
        points. Large where a path comes back to where it was, and its chord is short.
    parallel, perpendicular: root mean square of both parts (t - s = tau): what the paper calls
        signal and noise.
    noise_to_signal: perpendicular / parallel; 0 on a straight line, sqrt((tau + 1) / (2 tau - 1))
        for independent increments and sqrt(3) for memoryless points in many dimensions.

    Raises:
        ValueError: a window below 2, or windows that do not grow.

    Source: Semantic Tube Prediction, arXiv 2602.22617, Definition 3.1.
    """
    if not windows or windows[0] < 2 or list(windows) != sorted(set(windows)):
        raise ValueError(f"windows are {windows}: wanted widths from 2 on, each once, growing")
    largest, relative, defined = [], [], []
    means, signals, noises, counts = [], [], [], []
    for width, found in enumerate(triangles(paths, range(2, windows[-1] + 1)), start=2):
        along_NRS, across_NRS, defined_NRS = found.parts()
        share_NRS = across_NRS / torch.where(defined_NRS, found.chord_NRS, 1)
        largest.append(_largest(across_NRS))
        relative.append(_largest(share_NRS))
        defined.append(defined_NRS.flatten(1).any(1))
        if width in windows:
            means.append(share_NRS.sum((1, 2)))
            signals.append(along_NRS.square().sum((1, 2)))
            noises.append(across_NRS.square().sum((1, 2)))
            counts.append(defined_NRS.sum((1, 2)))
    at_W = torch.tensor(windows) - 2
    largest_NW, relative_NW = (torch.stack(x, 1).cummax(1).values for x in (largest, relative))
    any_NW = torch.stack(defined, 1).cummax(1).values
    mean_NW, signal_NW, noise_NW, count_NW = (
        torch.stack(x, 1) for x in (means, signals, noises, counts)
    )
    return TubeRadius(
        Measured(largest_NW[:, at_W], any_NW[:, at_W]),
        Measured(relative_NW[:, at_W], any_NW[:, at_W]),
        Measured.ratio(mean_NW, count_NW),
        _root(Measured.ratio(signal_NW, count_NW)),
        _root(Measured.ratio(noise_NW, count_NW)),
        _root(Measured.ratio(noise_NW, signal_NW)),
    )


@dataclass(frozen=True)
class LemmaCheck:
    """How a document stands to Lemma 3.2, (N, W), see `straightening_lemma`."""

    largest_ratio: Measured
    mean_ratio: Measured
    num_violations: Measured


def straightening_lemma(paths: Paths, windows: tuple[int, ...] = WINDOWS) -> LemmaCheck:
    """Deviation over what Lemma 3.2 allows, in windows t - s of exactly each width.

    The lemma: if 1 - cos(h_t - h_r, h_r - h_s) <= epsilon for all r between s and t, then the part
    of h_r - h_s across h_t - h_s is at most sqrt(2 epsilon) |h_r - h_s|. The ratio of both sides,
    with the smallest epsilon of the window, is at most 1.

    The paper's proof is for small angles. The bound holds for all: the angle at s is no more than
    the turning angle at r, so its sine is at most sqrt(epsilon (2 - epsilon)) up to a right angle;
    beyond, sqrt(2 epsilon) > 1. A violation is thus a fault of arithmetic (more than 1e-6 of
    |h_r - h_s|), and what tells is the ratio: far below 1 where epsilon says little of the tube.

    Raises:
        ValueError: a window below 2.

    Source: Semantic Tube Prediction, arXiv 2602.22617, Lemma 3.2 and its appendix D.
    """
    largest, sums, counts, violations, turns = [], [], [], [], []
    for found in triangles(paths, windows):
        cost_NRS, turns_NRS = found.turning_cost()
        _, across_NRS, defined_NRS = found.parts()
        # Of no r at all there is no largest cost.
        epsilon_NRS = cost_NRS.amax(1, keepdim=True) if cost_NRS.shape[1] else cost_NRS
        bound_NRS = (2 * epsilon_NRS).sqrt() * found.before_NRS
        rounding_NRS = 1e-6 * found.before_NRS
        # On a straight window both sides are rounding, and their ratio says nothing.
        defined_NRS = defined_NRS & turns_NRS & (bound_NRS > rounding_NRS)
        ratio_NRS = across_NRS / torch.where(defined_NRS, bound_NRS, 1)
        ratio_NRS = ratio_NRS.masked_fill(~defined_NRS, 0)
        largest.append(_largest(ratio_NRS))
        sums.append(ratio_NRS.sum((1, 2)))
        counts.append(defined_NRS.sum((1, 2)))
        violations.append((turns_NRS & (across_NRS > bound_NRS + rounding_NRS)).sum((1, 2)))
        turns.append(turns_NRS.sum((1, 2)))
    count_NW = torch.stack(counts, 1)
    return LemmaCheck(
        Measured(torch.stack(largest, 1), count_NW > 0),
        Measured.ratio(torch.stack(sums, 1), count_NW),
        Measured(torch.stack(violations, 1).double(), torch.stack(turns, 1) > 0),
    )


def _largest(value_NRS: torch.Tensor) -> torch.Tensor:
    """(N,) the largest of values that are at least 0; 0 of none."""
    value = value_NRS.flatten(1)
    return value.amax(1) if value.shape[1] else value.new_zeros(len(value))


def _root(squared: Measured) -> Measured:
    return Measured(squared.value.sqrt(), squared.defined)
