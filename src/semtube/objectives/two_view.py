"""Two-view: the prompt and the answer should move the hidden state the same way.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from semtube.objectives.directions import LinearPredictor, turning_cost
from semtube.objectives.objective import Encoder, Objective, needs
from semtube.objectives.random_keys import draw_below, fold
from semtube.objectives.sampling import ContentRanks
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Trajectories
from semtube.objectives.tube import check_predictor


@dataclass(frozen=True, repr=False)
class TwoView(Objective):
    """1 - cos(answer, prompt), where each view is one vector of its hidden states.

    displacement: the sum of the view's increments h_i - h_{i-1}, so for one stretch of text its
    last state less the state before its first token. mean: the mean of its states ("Mean"). branch:
    the displacement of the answer against that of the prompt up to a random token r of it.

    Tokens between the views take part in neither. So for multiple choice give the batch roles in
    which the right choice has the role ANSWER and the other choices TEMPLATE: the cost is then
    1 - cos(h_t - h_r', h_r - h_s), which skips the branches not taken (the paper's appendix G,
    where a random r, `branch`, did better than the prompt's end, `displacement`).

    With `Ramp(weight, steps)` as its weight it is the paper's warm-up, with `predictor="linear"`
    its "Pred". A document without prompt or answer gives no cost. Range 0 to 2.

    Args:
        weight: factor beside the next-token loss, at least 0.
        form: `displacement`, `mean` or `branch`.
        layer: which states: k after the k-th decoder layer, -1 the last; several as a tuple.
        predictor: `linear` maps the prompt's vector by a learned matrix first.
        predictor_rate: how many times faster than the model that matrix learns.

    Source: Semantic Tube Prediction, arXiv 2602.22617, ablation "Two-view" and appendix G; its
        code, `--linear=e2e` and `--linear=mean`.
    """

    name: ClassVar[str] = "two_view"
    form: Literal["displacement", "mean", "branch"] = "displacement"
    layer: int | tuple[int, ...] = -1  # type: ignore[misc]
    predictor: Literal["none", "linear"] = "none"
    predictor_rate: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        needs("form", self.form, ("displacement", "mean", "branch"))
        check_predictor(self.predictor, self.predictor_rate, self.layers)

    def build_parts(self, width: int) -> nn.Module | None:
        """The linear predictor, if there is one."""
        return LinearPredictor(width, self.predictor_rate) if self.predictor == "linear" else None

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`; `key` is read by `branch` alone."""
        vector = view_mean if self.form == "mean" else view_displacement
        prompt_BT = trajectories.prompt_BT
        if self.form == "branch":
            prompt_BT = _random_beginning(prompt_BT, trajectories, key)
        prompt_ND, has_prompt_N = vector(hidden_BTD, prompt_BT, trajectories)
        answer_ND, has_answer_N = vector(hidden_BTD, trajectories.answer_BT, trajectories)
        if parts is not None:
            prompt_ND = parts(prompt_ND)
        cost_N, defined_N = turning_cost(prompt_ND, answer_ND)
        counted_N = defined_N & has_prompt_N & has_answer_N
        return LossTerm(torch.where(counted_N, cost_N, 0), counted_N.long())


def _random_beginning(view_BT: Tensor, trajectories: Trajectories, key: int) -> Tensor:
    """(B, T) bool: the view's tokens up to one that is drawn uniformly from them."""
    view_BT = trajectories.moving(view_BT)
    ranks = ContentRanks.of(view_BT, trajectories.document_BT, trajectories.num_documents)
    stop_N = 1 + draw_below(fold(trajectories.key_N, key), ranks.size_N)
    span_N2 = torch.stack([torch.zeros_like(stop_N), stop_N], dim=-1)
    return view_BT & ranks.between(span_N2, trajectories.document_BT)


def view_mean(
    hidden_BTD: Tensor, view_BT: Tensor, trajectories: Trajectories
) -> tuple[Tensor, Tensor]:
    """(N, D) mean state of the view's tokens, and which documents have any."""
    count_N = trajectories.sum_by_document(view_BT.long())
    total_ND = _sum_states(hidden_BTD, view_BT.long(), trajectories)
    return total_ND / count_N.clamp_min(1)[:, None], count_N > 0


def view_displacement(
    hidden_BTD: Tensor, view_BT: Tensor, trajectories: Trajectories
) -> tuple[Tensor, Tensor]:
    """(N, D) sum of the increments of the view's tokens, and which documents have any.

    Increments of neighbours cancel but for the ends: each state counts +1 where it ends a stretch
    of the view and -1 where the stretch begins right behind it.
    """
    moves_BT = trajectories.moving(view_BT)
    sign_BT = moves_BT.long()
    sign_BT[:, :-1] -= moves_BT[:, 1:].long()
    total_ND = _sum_states(hidden_BTD, sign_BT, trajectories)
    return total_ND, trajectories.sum_by_document(moves_BT.long()) > 0


def _sum_states(hidden_BTD: Tensor, factor_BT: Tensor, trajectories: Trajectories) -> Tensor:
    """(N, D) sums of factor times state over each document, at least in float32."""
    wide = torch.promote_types(hidden_BTD.dtype, torch.float32)
    # Not a product with zeros: a non-finite state in the padding would spread.
    chosen_BTD = torch.where(factor_BT[..., None] != 0, hidden_BTD.to(wide), 0)
    terms = (chosen_BTD * factor_BT[..., None]).flatten(0, 1)
    total_ND = terms.new_zeros(trajectories.num_documents + 1, terms.shape[-1])
    slot = torch.where(
        trajectories.document_BT >= 0, trajectories.document_BT, trajectories.num_documents
    )
    return total_ND.index_add(0, slot.flatten(), terms)[:-1]
