"""Curvature: the angle by which a trajectory turns at every token.

Shape letters: B rows, T tokens, P content tokens in order, D hidden size, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from semtube.objectives.directions import MIN_LENGTH
from semtube.objectives.objective import Encoder, Objective, widened
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Content, Trajectories


def turning_angle(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in [0, pi] between vectors along the last dimension, and whether it is defined.

    2 asin(|u - v| / 2) for the unit vectors u and v up to a right angle, pi - 2 asin(|u + v| / 2)
    beyond: accurate near 0 and pi, where the arccosine of a rounded cosine is not, and of slope 1
    everywhere between. At exactly 0 and pi, where the angle has a kink, the gradient is 0. Where a
    vector is shorter than MIN_LENGTH the angle is not defined; it is returned as 0 with gradient 0.

    Source: the difference of unit vectors as in W. Kahan, "How futile are mindless assessments of
        roundoff", section 12.
    """
    first_length, second_length = _length(first), _length(second)
    defined = torch.minimum(first_length, second_length) > MIN_LENGTH
    first_length = first_length.clamp_min(MIN_LENGTH)
    opposed = (first * second).sum(-1) < 0
    # The second vector at the length of the first, and turned round beyond a right angle.
    ratio = first_length / second_length.clamp_min(MIN_LENGTH)
    ratio = torch.where(opposed, -ratio, ratio)
    apart = _length(first - ratio[..., None] * second)
    angle = 2 * torch.asin(apart / (2 * first_length))
    return torch.where(opposed, torch.pi - angle, angle).masked_fill(~defined, 0), defined


def _length(vectors: Tensor) -> Tensor:
    """Norms over the last dimension, with gradient 0, not NaN, at the zero vector."""
    return torch.linalg.vector_norm(vectors, dim=-1)


@dataclass(frozen=True, repr=False)
class Curvature(Objective):
    """Mean absolute turning angle over all consecutive steps of a trajectory.

    mean over j of angle(h_{j+1} - h_j, h_j - h_{j-1}), where j runs over the content tokens of a
    document in order; template tokens between them are stepped over. In radians, 0 on a straight
    path to pi; pi / 2 for independent increments in many dimensions.

    There is no "signed" variant: an angle between two directions in more than two dimensions has
    no sign, and the released option changes nothing (`curvature_sign`: an arccosine is never
    negative). The p-value of 0.037 that the paper prints between the two is one between equal
    settings.

    Args:
        weight: factor beside the next-token loss, at least 0.
        layer: which states: k after the k-th decoder layer, -1 the last; several as a tuple.
        content: which tokens belong to the trajectory, see `Content`.

    Source: Semantic Tube Prediction, arXiv 2602.22617, ablation "Curvature"; its code takes the
        arccosine of the cosine, whose slope is infinite at 0 and pi.
    """

    name: ClassVar[str] = "curvature"
    layer: int | tuple[int, ...] = -1  # type: ignore[misc]
    content: Content = "text"  # type: ignore[misc]

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`; `key` is not read. Finding the content waits for the device once."""
        place_P = trajectories.content_BT.flatten().nonzero()[:, 0]
        document_P = trajectories.document_BT.flatten()[place_P]
        path_PD = widened(hidden_BTD.flatten(0, 1)[place_P])
        steps = path_PD[1:] - path_PD[:-1]
        within = document_P[1:] == document_P[:-1]
        angle, defined = turning_angle(steps[:-1], steps[1:])
        counted = within[:-1] & within[1:] & defined
        nothing_N = angle.new_zeros(trajectories.num_documents)
        return LossTerm(
            nothing_N.index_add(0, document_P[1:-1], angle.masked_fill(~counted, 0)),
            nothing_N.long().index_add(0, document_P[1:-1], counted.long()),
        )
