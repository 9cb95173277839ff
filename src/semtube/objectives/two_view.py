"""Two-view: the prompt and the answer should move the hidden state the same way.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from semtube.objectives.arguments import needs
from semtube.objectives.directions import turning_cost
from semtube.objectives.displacements import sum_of_increments, sum_of_states
from semtube.objectives.objective import Encoder, Objective
from semtube.objectives.random_keys import draw_below, fold
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Trajectories


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
    predictor: Literal["none", "linear"] = "none"  # type: ignore[misc]
    predictor_rate: float = 100.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        needs("form", self.form, ("displacement", "mean", "branch"))

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
        prompt_BT, answer_BT = trajectories.prompt_BT, trajectories.answer_BT
        total = sum_of_states  # which has the direction of the mean
        if self.form != "mean":
            total = sum_of_increments
            prompt_BT, answer_BT = trajectories.moving(prompt_BT), trajectories.moving(answer_BT)
        if self.form == "branch":
            prompt_BT = _random_beginning(prompt_BT, trajectories, key)
        document_BT, num_documents = trajectories.document_BT, trajectories.num_documents
        slot_BT = torch.where(answer_BT, document_BT + num_documents, 2 * num_documents)
        slot_BT = torch.where(prompt_BT, document_BT, slot_BT)
        vectors_SD = total(hidden_BTD, slot_BT, 2 * num_documents)
        prompt_ND, answer_ND = vectors_SD.unflatten(0, (2, num_documents))
        if parts is not None:
            prompt_ND = parts(prompt_ND)
        # A view of no tokens is a vector without a direction.
        cost_N, defined_N = turning_cost(prompt_ND, answer_ND)
        return LossTerm(cost_N, defined_N.long())


def _random_beginning(view_BT: Tensor, trajectories: Trajectories, key: int) -> Tensor:
    """(B, T) bool: the view's tokens up to one that is drawn uniformly from them."""
    ranks = trajectories.ranks(view_BT)
    stop_N = 1 + draw_below(fold(trajectories.key_N, key), ranks.size_N)
    span_N2 = torch.stack([torch.zeros_like(stop_N), stop_N], dim=-1)
    return view_BT & ranks.between(span_N2, trajectories.document_BT)
