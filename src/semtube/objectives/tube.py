"""Semantic Tube Prediction: keep a document's hidden states on a locally straight path.

Shape letters: B rows, T tokens, D hidden size, N documents, K draws per document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.objectives.arguments import needs, needs_whole
from semtube.objectives.directions import turning_cost
from semtube.objectives.displacements import sum_of_increments
from semtube.objectives.objective import Encoder, Objective, widened
from semtube.objectives.random_keys import fold
from semtube.objectives.sampling import Law, draw_spans, draw_triplets
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Content, Trajectories

_LAWS = {"triplet": ("uniform", "anchored"), "span": ("uniform", "anchored", "sequential")}
_SHORTEST = {"triplet": 2, "span": 1}


@dataclass(frozen=True, repr=False)
class SemanticTube(Objective):
    """The tube loss in its two published forms.

    triplet (the paper): 1 - cos(h_t - h_r, h_r - h_s) for random s < r < t.
    span (the authors' code): 1 - cos(p, T - p), where every content token i has the increment
    h_i - h_{i-1}, p sums the increments of a random span and T those of the whole document.
    Template tokens between prompt and answer have no increment of their own.

    Range 0 to 2; 0 on a straight path, 1 for independent increments, 1.5 for independent states
    (1.71 for a span that touches neither end). The two agree only for a span that starts the
    document, where the text is contiguous.

    The paper's ablations: `law="anchored"` is "Zero", `content="instruction"` is "Inst",
    `predictor="linear"` is "Pred".

    Args:
        weight: factor beside the next-token loss, at least 0; the paper uses 0.0025 to 0.16.
        form: `triplet` or `span`.
        draws: triplets (or spans) per document.
        law: how positions are drawn, see `semtube.objectives.sampling.Law`.
        max_length: longest t - s (or span) in content tokens; None for no limit.
        layer: which states: k after the k-th decoder layer, -1 the last, after the final norm.
            Several, as (4, 8, -1): the term is their mean, with the same positions at each.
        content: which tokens belong to the trajectory, see `Content`.
        length_weight: multiply each cost by a function of the two lengths a and b in content
            tokens: `none`; `quadratic`, 2ab / (a^2 + b^2); `linear`, 1 - |a - b| / (a + b). Both
            are 1 for equal lengths. The count stays the number of costs.
        predictor: `linear` maps the earlier displacement (or T - p) by a learned matrix first.
        predictor_rate: how many times faster than the model that matrix learns.

    Raises:
        ValueError: naming the argument, what it is and what it may be.

    Source: Semantic Tube Prediction, arXiv 2602.22617, section 3; code galilai-group/llm-jepa
        6d7d0d1, `--linear=random_span` and `length_adjustment`. Ours draws uniformly (`law`), the
        code sequentially; our predictor starts at the identity, theirs at random.
    """

    name: ClassVar[str] = "tube"
    form: Literal["triplet", "span"] = "triplet"
    draws: int = 1
    law: Law = "uniform"
    max_length: int | None = None
    layer: int | tuple[int, ...] = -1  # type: ignore[misc]
    content: Content = "text"  # type: ignore[misc]
    length_weight: Literal["none", "quadratic", "linear"] = "none"
    predictor: Literal["none", "linear"] = "none"  # type: ignore[misc]
    predictor_rate: float = 100.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        needs("form", self.form, tuple(_LAWS))
        if self.law not in _LAWS[self.form]:
            raise ValueError(f"law is {self.law!r}: form {self.form!r} takes {_LAWS[self.form]}")
        if self.max_length is not None:
            needs_whole("max_length", self.max_length, _SHORTEST[self.form])
        needs_whole("draws", self.draws, 1)
        needs("length_weight", self.length_weight, ("none", "quadratic", "linear"))

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`; differences are taken in float32 (float64 stays float64)."""
        key_N = fold(trajectories.key_N, key)
        displacements = self._triplets if self.form == "triplet" else self._spans
        context_NKD, target_NKD, lengths_NK2 = displacements(hidden_BTD, trajectories, key_N)
        if parts is not None:
            context_NKD = parts(context_NKD)
        cost_NK, defined_NK = turning_cost(context_NKD, target_NKD)
        if self.length_weight != "none":
            cost_NK = cost_NK * self._length_factor(lengths_NK2.to(cost_NK.dtype))
        return LossTerm(cost_NK.sum(-1), defined_NK.sum(-1))

    def _length_factor(self, lengths_NK2: Tensor) -> Tensor:
        a_NK, b_NK = lengths_NK2.unbind(-1)
        if self.length_weight == "quadratic":
            return 2 * a_NK * b_NK / (a_NK**2 + b_NK**2).clamp_min(1)
        return 1 - (a_NK - b_NK).abs() / (a_NK + b_NK).clamp_min(1)

    def _triplets(
        self, hidden_BTD: Tensor, trajectories: Trajectories, key_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K, D) h_r - h_s and h_t - h_r, and their lengths in tokens; 0 without a triplet."""
        ranks = trajectories.ranks(trajectories.content_BT)
        triplets_NK3, valid_N = draw_triplets(
            ranks.size_N, key_N, self.draws, law=self.law, max_length=self.max_length
        )
        # The states as a table of rows: its graph keeps the indices alone, gather's all states.
        states_NK3D = F.embedding(ranks.flat_index(triplets_NK3), hidden_BTD.flatten(0, 1))
        # Without a triplet the ranks mean nothing, and may point into padding that is not finite.
        states_NK3D = widened(states_NK3D).masked_fill(~valid_N[:, None, None, None], 0)
        s_NKD, r_NKD, t_NKD = states_NK3D.unbind(2)
        return r_NKD - s_NKD, t_NKD - r_NKD, triplets_NK3.diff(dim=-1)

    def _spans(
        self, hidden_BTD: Tensor, trajectories: Trajectories, key_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K, D) displacements over the rest and the span, and their lengths in tokens."""
        document_BT, num_documents = trajectories.document_BT, trajectories.num_documents
        # A token without a predecessor in its document has no increment, so it is in no span.
        moves_BT = trajectories.moving(trajectories.content_BT)
        ranks = trajectories.ranks(moves_BT)
        spans_NK2, _ = draw_spans(
            ranks.size_N, key_N, self.draws, law=self.law, max_length=self.max_length
        )
        segment_BT, inside_NKS = ranks.cut(spans_NK2, document_BT)
        num_segments = inside_NKS.shape[-1]
        num_slots = num_documents * num_segments
        slot_BT = torch.where(moves_BT, document_BT * num_segments + segment_BT, num_slots)
        increments = sum_of_increments(hidden_BTD, slot_BT, num_slots)
        increments_NSD = increments.unflatten(0, (num_documents, num_segments))
        span_NKD, rest_NKD = (
            mask_NKS.to(increments.dtype) @ increments_NSD for mask_NKS in (inside_NKS, ~inside_NKS)
        )
        span_NK = spans_NK2.diff(dim=-1)[..., 0]
        lengths_NK2 = torch.stack([ranks.size_N[:, None] - span_NK, span_NK], dim=-1)
        return rest_NKD, span_NKD, lengths_NK2
