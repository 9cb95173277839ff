"""How straight trajectories are: tube loss by length, turning angles, curvature, chord over path.

Shape letters: N documents, L longest path, D hidden size, W lengths, S places of a span.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from semtube.geometry.measured import Measured
from semtube.geometry.paths import Paths
from semtube.geometry.triangles import triangles
from semtube.objectives.curvature import turning_angle
from semtube.objectives.directions import MIN_LENGTH, turning_cost
from semtube.objectives.tube import SemanticTube

#: Lengths at which losses are measured, in tokens of the path. Ours: no source has any.
SPANS = (2, 4, 8, 16, 32)


def tube_loss(
    paths: Paths, *, form: Literal["triplet", "span"] = "triplet", draws: int = 16
) -> Measured:
    """(N,) the tube loss as it is trained on: the mean over random triplets or spans, 0 to 2.

    Args:
        paths: `Paths.of_increments` for form "span".
        draws: for each document, by its key. Ours, as for held-out rows.
    """
    # On a path of increments, the first state stands for the token that has none.
    objective = SemanticTube(weight=0.0, form=form, draws=draws)
    # The loss knows no scale, the objective's shortest displacement does: at this one, that is what
    # is rounding (or up to twice as much: a power of 2, which costs no digits).
    scale_N = torch.exp2((paths.shortest_N / MIN_LENGTH).log2().floor()).to(paths.states_NLD.dtype)
    term = objective(paths.states_NLD / scale_N[:, None, None], paths.trajectories, key=0)
    return Measured.ratio(term.total_N, term.count_N)


def tube_loss_by_width(paths: Paths, widths: tuple[int, ...] = SPANS) -> Measured:
    """(N, W) mean of 1 - cos(h_t - h_r, h_r - h_s) over all s < r < t with t - s = width.

    0 to 2; 0 on a straight line, 1 for independent increments, 1.5 for memoryless points. All
    triplets, none drawn.

    Raises:
        ValueError: a width below 2.

    Source: Semantic Tube Prediction, arXiv 2602.22617, section 3.1.
    """
    sums, counts = [], []
    for found in triangles(paths, widths):
        cost_NRS, defined_NRS = found.turning_cost()
        sums.append(cost_NRS.sum((1, 2)))
        counts.append(defined_NRS.sum((1, 2)))
    return Measured.ratio(torch.stack(sums, 1), torch.stack(counts, 1))


def span_loss_by_length(increments: Paths, lengths: tuple[int, ...] = SPANS) -> Measured:
    """(N, W) mean of 1 - cos(p, T - p) over all spans of a length, shorter than the document.

    p is the displacement over the span, T that over the document. 0 to 2; 0 on a straight line,
    1 for independent increments.

    Args:
        increments: `Paths.of_increments`.

    Raises:
        ValueError: a length below 1.

    Source: code galilai-group/llm-jepa 6d7d0d1, `--linear=random_span`.
    """
    if any(length < 1 for length in lengths):
        raise ValueError(f"lengths are {lengths}: a span has a token at least")
    states_NLD, size_N = increments.states_NLD.double(), increments.size_N
    whole_N1D = _last(states_NLD, size_N)[:, None] - states_NLD[:, :1]
    sums, counts = [], []
    for length in lengths:
        span_NSD = states_NLD[:, length:] - states_NLD[:, :-length]
        cost_NS, defined_NS = turning_cost(
            increments.moving(whole_N1D - span_NSD), increments.moving(span_NSD)
        )
        # The whole document leaves no rest: exactly 0, so no direction.
        defined_NS = defined_NS & increments.inside_NL[:, length:]
        sums.append(cost_NS.masked_fill(~defined_NS, 0).sum(1))
        counts.append(defined_NS.sum(1))
    return Measured.ratio(torch.stack(sums, 1), torch.stack(counts, 1))


def turning_angle_rad(paths: Paths) -> Measured:
    """(N,) mean angle between one step and the next, in radians, 0 to pi.

    0 on a straight line, pi / 2 for independent increments, 2 pi / 3 for memoryless points in many
    dimensions. The angle is accurate at 0 and pi, see `turning_angle`. The objective `Curvature` is
    this.

    Source: Henaff et al. (2021), "Primary visual cortex straightens natural video trajectories".
    """
    steps_NLD = paths.steps_NLD
    angle_NL, defined_NL = turning_angle(steps_NLD[:, :-1], steps_NLD[:, 1:])
    defined_NL = defined_NL & paths.inside_NL[:, 2:]
    return Measured.ratio(angle_NL.masked_fill(~defined_NL, 0).sum(1), defined_NL.sum(1))


def curvature(paths: Paths) -> Measured:
    """(N,) mean curvature of the circles through three neighbours, 1 / radius, in 1 / state unit.

    2 sin(angle) / |h_{j+1} - h_{j-1}| (Menger): exactly 1 / R on a circle of radius R, whatever
    the step; 0 on a straight line. Where the path turns right back, no circle is defined.
    """
    steps_NLD = paths.steps_NLD
    angle_NL, defined_NL = turning_angle(steps_NLD[:, :-1], steps_NLD[:, 1:])
    chord_NL = torch.linalg.vector_norm(paths.moving(steps_NLD[:, :-1] + steps_NLD[:, 1:]), dim=-1)
    defined_NL = defined_NL & (chord_NL > MIN_LENGTH) & paths.inside_NL[:, 2:]
    curvature_NL = 2 * angle_NL.sin() / chord_NL.clamp_min(MIN_LENGTH)
    return Measured.ratio(curvature_NL.masked_fill(~defined_NL, 0).sum(1), defined_NL.sum(1))


def chord_over_path(paths: Paths) -> Measured:
    """(N,) |h_last - h_first| over the sum of the steps' lengths, 0 to 1.

    1 on a straight line; about 1 / sqrt(T - 1) for independent increments and 1 / (T - 1) for
    memoryless points: compare only at one length T. Not defined for a path that never moves, or of
    fewer than three states, which has no bend.
    """
    states_NLD = paths.states_NLD
    steps_NL = torch.linalg.vector_norm(paths.steps_NLD, dim=-1).double()
    path_N = steps_NL.masked_fill(~paths.inside_NL[:, 1:], 0).sum(1)
    chord_N = torch.linalg.vector_norm(
        _last(states_NLD, paths.size_N) - states_NLD[:, 0], dim=-1
    ).double()
    moves_N = (path_N > MIN_LENGTH) & (paths.size_N >= 3)
    return Measured.ratio(torch.where(moves_N, chord_N, 0), torch.where(moves_N, path_N, 0))


def step_length(paths: Paths) -> Measured:
    """(N,) mean length of a path's steps, in units of states: the scale of all that has one.

    A step that is rounding is 0.
    """
    steps_NL = torch.linalg.vector_norm(paths.steps_NLD, dim=-1).double()
    inside_NL = paths.inside_NL[:, 1:]
    return Measured.ratio(steps_NL.masked_fill(~inside_NL, 0).sum(1), inside_NL.sum(1))


def _last(states_NLD: Tensor, size_N: Tensor) -> Tensor:
    """(N, D) the last state of each path; of an empty one, the first place."""
    row_N = torch.arange(len(size_N), device=size_N.device)
    return states_NLD[row_N, (size_N - 1).clamp_min(0)]
