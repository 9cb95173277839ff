"""Curvature: the angle by which a trajectory turns at every token.

Shape letters: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from semtube.objectives.directions import MIN_LENGTH
from semtube.objectives.objective import Encoder, Objective
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Content, Trajectories


def turning_angle(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in [0, pi] between vectors along the last dimension, and whether it is defined.

    2 atan2(|u - v|, |u + v|) for the unit vectors u and v: accurate near 0 and pi, where the
    arccosine of a rounded cosine is not, and of slope 1 everywhere between. At exactly 0 and pi,
    where the angle has a kink, the gradient is 0. Where a vector is shorter than MIN_LENGTH the
    angle is not defined; it is returned as 0 with gradient 0.

    Source: W. Kahan, "How futile are mindless assessments of roundoff", section 12.
    """
    first_length = first.square().sum(-1, keepdim=True).clamp_min(MIN_LENGTH**2).sqrt()
    second_length = second.square().sum(-1, keepdim=True).clamp_min(MIN_LENGTH**2).sqrt()
    defined = (torch.minimum(first_length, second_length) > MIN_LENGTH)[..., 0]
    unit_first, unit_second = first / first_length, second / second_length
    apart, along = _norm(unit_first - unit_second), _norm(unit_first + unit_second)
    return torch.where(defined, 2 * torch.atan2(apart, along), 0), defined


def _norm(vector: Tensor) -> Tensor:
    """Length with slope 0, not NaN, at the zero vector."""
    squared = vector.square().sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


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
        """See `Objective`; nothing is drawn, so `key` is not read."""
        wide = torch.promote_types(hidden_BTD.dtype, torch.float32)
        before_BT, has_before_BT = previous_content(trajectories)
        states = hidden_BTD.flatten(0, 1)
        steps_BTD = hidden_BTD.to(wide) - states[before_BT].to(wide)
        # A step that does not exist would carry the padding's numbers along.
        steps_BTD = torch.where(has_before_BT[..., None], steps_BTD, 0)
        turns_BT = has_before_BT & has_before_BT.flatten()[before_BT]
        angle_BT, defined_BT = turning_angle(steps_BTD.flatten(0, 1)[before_BT], steps_BTD)
        counted_BT = turns_BT & defined_BT
        return LossTerm(
            trajectories.sum_by_document(torch.where(counted_BT, angle_BT, 0)),
            trajectories.sum_by_document(counted_BT.long()),
        )


def previous_content(trajectories: Trajectories) -> tuple[Tensor, Tensor]:
    """Flat index (B, T) of the content token before each content token, and whether one exists.

    Before means: the nearest earlier one of the same document. Where there is none, the index
    points to the token itself.
    """
    content_BT, document_BT = trajectories.content_BT, trajectories.document_BT
    place_BT = torch.arange(content_BT.numel(), device=content_BT.device).view_as(content_BT)
    latest_BT = torch.where(content_BT, place_BT, -1).cummax(dim=1).values
    before_BT = torch.full_like(latest_BT, -1)
    before_BT[:, 1:] = latest_BT[:, :-1]
    exists_BT = content_BT & (before_BT >= 0)
    before_BT = torch.where(exists_BT, before_BT, place_BT)
    exists_BT &= document_BT.flatten()[before_BT] == document_BT
    return torch.where(exists_BT, before_BT, place_BT), exists_BT
