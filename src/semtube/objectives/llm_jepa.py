"""LLM-JEPA: from the encoding of one view of an example, predict that of the other.

Shape letters: N documents, W width of a row, D hidden size, K predictor tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.objectives.arguments import needs, needs_positive
from semtube.objectives.directions import MIN_LENGTH, VectorsAndMatrix, turning_cost
from semtube.objectives.objective import Encoder, Objective
from semtube.objectives.packed_texts import pack, states_at, tokens_of, vectors
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Trajectories
from semtube.objectives.weights import Weight


@dataclass(frozen=True, repr=False)
class LLMJepa(Objective):
    """distance(Pred(Enc(prompt)), Enc(answer)), each view read alone by the model itself.

    Enc is the last state of the view's tokens. Pred appends `predictor_tokens` learned input
    vectors to the prompt and takes the state of the last one, and may map it by a learned matrix.
    Both views stand in one row, where the second does not see the first: one extra forward pass
    over the text without its template, so about twice the cost of a step.

    Distances of u (predicted) and v: `cosine`, 1 - cos(u, v), range 0 to 2; `l2`, |u - v|; `mse`,
    |u - v|^2 / D; `infonce`, -log softmax_j(cos(u_i, v_j) / temperature) at j = i, over the
    documents of one forward pass: it alone depends on how a step is split into micro-batches.

    For loss dropout give `Dropped(weight, rate)` as the weight: the term, and its forward pass,
    is then left out in that share of the steps.

    Args:
        weight: factor beside the next-token loss, at least 0; the paper uses 0.5 to 4.
        predictor_tokens: K, 0 to 4. They are vectors of the objective's own, not entries of the
            tokenizer, so a tokenizer that has such tokens already does not clash.
        distance: see above.
        temperature: of `infonce`, above 0.
        reverse: predict the prompt from the answer.
        predictor: `linear` maps u by a learned matrix.
        predictor_rate: how many times faster than the model matrix and vectors learn.

    Source: LLM-JEPA, arXiv 2509.14252, and its code. There each view stands in a chat template of
        its own; here it is bare text.
    """

    name: ClassVar[str] = "llm_jepa"
    encodes: ClassVar[bool] = True
    weight: Weight = 1.0
    predictor_tokens: int = 1
    distance: Literal["cosine", "l2", "mse", "infonce"] = "cosine"
    temperature: float = 0.07
    reverse: bool = False
    predictor: Literal["none", "linear"] = "none"  # type: ignore[misc]
    predictor_rate: float = 100.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        needs("predictor_tokens", self.predictor_tokens, (0, 1, 2, 3, 4))
        needs("reverse", self.reverse, (False, True))
        needs("distance", self.distance, ("cosine", "l2", "mse", "infonce"))
        needs_positive("temperature", self.temperature)

    def build_parts(self, width: int) -> nn.Module | None:
        """Predictor vectors and matrix; None with neither."""
        if self.predictor_tokens == 0 and self.predictor == "none":
            return None
        return VectorsAndMatrix(
            self.predictor_tokens,
            width,
            self.predictor_rate,
            with_matrix=self.predictor == "linear",
        )

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`; `hidden_BTD` is not read. Waits for the device to size the views."""
        assert encoder is not None, "LLM-JEPA encodes"
        views = [
            tokens_of(view_BT, trajectories)
            for view_BT in (trajectories.prompt_BT, trajectories.answer_BT)
        ]
        source, target = reversed(views) if self.reverse else views
        vectors_KD = None
        predicting = [source]
        if self.predictor_tokens:
            assert isinstance(parts, VectorsAndMatrix), "predictor tokens are learned"
            vectors_KD = parts.vectors_KD
            predicting.append(vectors(self.predictor_tokens, source))
        packed = pack([predicting, [target]])
        states_NWD = encoder(packed.index_NW, packed.position_NW, vectors_KD)
        predicted_ND, target_ND = (states_at(states_NWD, c) for c in packed.last_NT.unbind(-1))
        if isinstance(parts, VectorsAndMatrix):
            predicted_ND = parts.map(predicted_ND)
        has_both_N = (source.size_N > 0) & (target.size_N > 0)
        cost_N, defined_N = self._distance(predicted_ND, target_ND, has_both_N)
        counted_N = has_both_N & defined_N
        return LossTerm(torch.where(counted_N, cost_N, 0), counted_N.long())

    def _distance(
        self, first_ND: Tensor, second_ND: Tensor, usable_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.distance == "cosine":
            return turning_cost(first_ND, second_ND)
        if self.distance == "infonce":
            cosine_NN = F.normalize(first_ND, dim=-1) @ F.normalize(second_ND, dim=-1).T
            scores_NN = (cosine_NN / self.temperature).masked_fill(~usable_N[None, :], -torch.inf)
            return -F.log_softmax(scores_NN, dim=-1).diagonal(), torch.ones_like(usable_N)
        squared_N = (first_ND - second_ND).square().sum(-1)
        if self.distance == "mse":
            return squared_N / first_ND.shape[-1], torch.ones_like(usable_N)
        return squared_N.clamp_min(MIN_LENGTH**2).sqrt(), torch.ones_like(usable_N)
