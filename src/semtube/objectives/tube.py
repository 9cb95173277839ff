"""Semantic Tube Prediction: keep a document's hidden states on a locally straight path.

Shape letters: B rows, T tokens, D hidden size, N documents, K draws per document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from semtube.objectives.random_keys import fold
from semtube.objectives.sampling import ContentRanks, Law, draw_spans, draw_triplets
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import CONTENT_ROLES, Content, Trajectories

#: A shorter displacement (in units of the states) has no direction.
MIN_LENGTH = 1e-6


def turning_cost(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cos(first, second) over the last dimension, and whether it is defined.

    0 for one direction, 1 at a right angle, 2 for opposite ones. Inputs are float32 or wider.
    Where either vector is shorter than MIN_LENGTH the cost is not defined; it is returned as 0
    and its gradient is 0, not NaN.
    """
    first_squared, second_squared = first.square().sum(-1), second.square().sum(-1)
    defined = torch.minimum(first_squared, second_squared) > MIN_LENGTH**2
    # Clamped before the root: the slope of a norm at 0 is infinite, and inf * 0 is NaN.
    lengths = (
        first_squared.clamp_min(MIN_LENGTH**2).sqrt()
        * second_squared.clamp_min(MIN_LENGTH**2).sqrt()
    )
    cost = 1 - (first * second).sum(-1) / lengths
    return torch.where(defined, cost, 0), defined


@dataclass(frozen=True)
class SemanticTube:
    """The tube loss in its two published forms.

    triplet (the paper): 1 - cos(h_t - h_r, h_r - h_s) for random s < r < t.
    span (the authors' code): 1 - cos(p, T - p), where every content token i has the increment
    h_i - h_{i-1}, p sums the increments of a random span and T those of the whole document.
    Template tokens between prompt and answer have no increment of their own.

    Range 0 to 2; 0 on a straight path, 1 for independent increments, 1.5 for independent states
    (1.71 for a span that touches neither end). The two agree only for a span that starts the
    document, where the text is contiguous.

    Args:
        weight: factor beside the next-token loss, at least 0; the paper uses 0.0025 to 0.16.
        form: `triplet` or `span`.
        draws: triplets (or spans) per document.
        law: how positions are drawn, see `semtube.objectives.sampling.Law`.
        max_length: longest t - s (or span) in content tokens; None for no limit.
        layer: which states: k after the k-th decoder layer, -1 the last, after the final norm.
        content: which tokens belong to the trajectory, see `Content`.

    Raises:
        ValueError: naming the argument, what it is and what it may be.

    Source: Semantic Tube Prediction, arXiv 2602.22617, section 3; code galilai-group/llm-jepa
        6d7d0d1, `--linear=random_span`. Ours draws uniformly (`law`), the code sequentially.
    """

    weight: float = 0.02
    form: Literal["triplet", "span"] = "triplet"
    draws: int = 1
    law: Law = "uniform"
    max_length: int | None = None
    layer: int = -1
    content: Content = "text"

    def __post_init__(self) -> None:
        laws = {"triplet": ("uniform", "anchored"), "span": ("uniform", "anchored", "sequential")}
        shortest = {"triplet": 2, "span": 1}
        if self.form not in laws:
            raise ValueError(f"form is {self.form!r}: use 'triplet' or 'span'")
        if self.law not in laws[self.form]:
            raise ValueError(f"law is {self.law!r}: form {self.form!r} takes {laws[self.form]}")
        if self.max_length is not None and self.max_length < shortest[self.form]:
            raise ValueError(
                f"max_length is {self.max_length}: form {self.form!r} needs at least "
                f"{shortest[self.form]} content tokens, or None"
            )
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}: at least 1 is needed")
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}: a finite number of at least 0 is needed")
        if self.content not in CONTENT_ROLES:
            raise ValueError(f"content is {self.content!r}: use one of {tuple(CONTENT_ROLES)}")
        if self.layer == 0:
            raise ValueError("layer is 0, the embeddings, which hold no trajectory: use 1.. or -1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the constructor's names, with `objective` = 'tube'."""
        return {"objective": "tube", **asdict(self)}

    def __call__(self, hidden_BTD: Tensor, trajectories: Trajectories, key: int) -> LossTerm:
        """Summed cost and number of costs per document.

        Args:
            hidden_BTD: states of one layer, any float type; differences are taken in float32
                (float64 stays float64).
            trajectories: the batch's documents.
            key: seeds the draws together with each document's own key.
        """
        wide = torch.promote_types(hidden_BTD.dtype, torch.float32)
        key_N = fold(trajectories.key_N, key)
        if self.form == "triplet":
            first, second, valid_N = self._triplet_displacements(
                hidden_BTD, trajectories, key_N, wide
            )
        else:
            first, second, valid_N = self._span_displacements(hidden_BTD, trajectories, key_N, wide)
        cost_NK, defined_NK = turning_cost(first, second)
        counted_NK = defined_NK & valid_N[:, None]
        return LossTerm((cost_NK * counted_NK).sum(-1), counted_NK.sum(-1))

    def _triplet_displacements(
        self, hidden_BTD: Tensor, trajectories: Trajectories, key_N: Tensor, wide: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K, D) h_r - h_s and h_t - h_r, and which documents have a triplet."""
        ranks = ContentRanks.of(
            trajectories.content_BT, trajectories.document_BT, trajectories.num_documents
        )
        triplets_NK3, valid_N = draw_triplets(
            ranks.size_N, key_N, self.draws, law=self.law, max_length=self.max_length
        )
        flat_NK3 = ranks.flat_index(triplets_NK3.flatten(1)).view_as(triplets_NK3)
        # Indexing the flat view saves the indices alone; gather would keep all states alive.
        states_NK3D = hidden_BTD.flatten(0, 1)[flat_NK3].to(wide)
        first, second = states_NK3D.diff(dim=2).unbind(2)
        return first, second, valid_N

    def _span_displacements(
        self, hidden_BTD: Tensor, trajectories: Trajectories, key_N: Tensor, wide: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K, D) displacement over the span and over the rest, and which documents have one."""
        document_BT = trajectories.document_BT
        # A token without a predecessor in its document has no increment, so it is in no span.
        moves_BT = trajectories.content_BT.clone()
        moves_BT[:, 0] = False
        moves_BT[:, 1:] &= document_BT[:, 1:] == document_BT[:, :-1]
        ranks = ContentRanks.of(moves_BT, document_BT, trajectories.num_documents)
        spans_NK2, valid_N = draw_spans(
            ranks.size_N, key_N, self.draws, law=self.law, max_length=self.max_length
        )
        increments = hidden_BTD.to(wide).diff(dim=1, prepend=hidden_BTD[:, :1].to(wide))
        # Not a product with the mask: a non-finite state in the padding would spread.
        moves = torch.where(moves_BT[..., None], increments, 0)
        path = moves.cumsum(1).flatten(0, 1)
        # path at rank j-1 is the summed displacement before rank j.
        last_N = ranks.flat_index((ranks.size_N - 1).clamp_min(0)[:, None])[:, 0]
        first_N = ranks.flat_index(torch.zeros_like(last_N)[:, None])[:, 0]
        edges_NK2 = ranks.flat_index((spans_NK2 - 1).clamp_min(0).flatten(1)).view_as(spans_NK2)
        origin_N1D = (path[first_N] - increments.flatten(0, 1)[first_N])[:, None]
        reached_NK2D = torch.where(
            (spans_NK2 > 0)[..., None], path[edges_NK2], origin_N1D[:, :, None]
        )
        span_NKD = reached_NK2D[:, :, 1] - reached_NK2D[:, :, 0]
        total_N1D = path[last_N][:, None] - origin_N1D
        return span_NKD, total_N1D - span_NKD, valid_N


def objective_from_dict(fields: dict[str, Any]) -> SemanticTube:
    """The objective that `to_dict` described.

    Raises:
        ValueError: an unknown objective or field.
    """
    fields = dict(fields)
    name = fields.pop("objective", None)
    if name != "tube":
        raise ValueError(f"objective is {name!r}: only 'tube' is known")
    unknown = set(fields) - set(SemanticTube.__dataclass_fields__)
    if unknown:
        raise ValueError(f"objective 'tube' has no field {sorted(unknown)[0]!r}")
    return SemanticTube(**fields)
