"""Next-latent prediction: the next hidden state should follow from this one and the next token.

Shape letters: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.objectives.arguments import needs_positive, needs_whole
from semtube.objectives.directions import ScaledLinear
from semtube.objectives.objective import Encoder, Objective, widened
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Content, Trajectories
from semtube.objectives.weights import Weight


@dataclass(frozen=True, repr=False)
class NextLatent(Objective):
    """smooth_l1(p(h_t, x_{t+1}), stop_gradient(h_{t+1})), averaged over the state's numbers.

    p(h, x) = h + f(layer_norm([embedding of x; h])), f three linear maps with GELU between them.
    For a horizon d, p is applied d times along the true tokens and the cost is the mean over its
    steps. At least 0, in units of the states (squared below a difference of 1).

    Args:
        weight: factor beside the next-token loss, at least 0; the paper uses 1 or 2.
        horizon: steps ahead, at least 1.
        expansion: inner width over 2 D, above 0.
        content: which tokens are predicted, see `Content`.
        predictor_rate: how many times faster than the model the predictor learns; 1 in
            pretraining, more for the small rates of fine-tuning.

    Source: NextLat, arXiv 2511.05963; its second part, a divergence between the tokens that the
        predicted and the true state foretell, is left out (best without it at horizon 1 there).
    """

    name: ClassVar[str] = "next_latent"
    encodes: ClassVar[bool] = True
    weight: Weight = 1.0
    horizon: int = 1
    expansion: float = 1.0
    content: Content = "all"  # type: ignore[misc]
    predictor_rate: float = 1.0  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_whole("horizon", self.horizon, 1)
        needs_positive("expansion", self.expansion)

    def build_parts(self, width: int) -> nn.Module:
        """The predictor p."""
        return NextStatePredictor(
            width, max(1, round(2 * self.expansion * width)), self.predictor_rate
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
        """See `Objective`; nothing is drawn, so `key` is not read."""
        assert encoder is not None, "next-latent prediction embeds the next token"
        assert parts is not None, "next-latent prediction learns"
        document_BT = trajectories.document_BT
        # A non-finite state in the padding must not spread.
        true_BTD = widened(hidden_BTD).masked_fill((document_BT < 0)[..., None], 0)
        place_BT = torch.arange(document_BT.numel(), device=document_BT.device)
        token_BTD = encoder.embed(place_BT.view_as(document_BT)).to(true_BTD.dtype)
        if token_BTD.shape[-1] != true_BTD.shape[-1]:
            raise ValueError(
                f"the model embeds tokens in {token_BTD.shape[-1]} numbers, its states have "
                f"{true_BTD.shape[-1]}: next-latent prediction needs the same"
            )
        guess_BTD, num_steps = true_BTD, min(self.horizon, document_BT.shape[1] - 1)
        # With a graph, also for rows that have no next token.
        total_N = trajectories.sum_by_document(0 * true_BTD.sum(-1))
        count_N = torch.zeros_like(trajectories.key_N)
        for ahead in range(1, num_steps + 1):
            guess_BTD = parts(guess_BTD[:, :-1], token_BTD[:, ahead:])
            cost_BT = F.smooth_l1_loss(
                guess_BTD, true_BTD[:, ahead:].detach(), reduction="none"
            ).mean(-1)
            counted_BT = trajectories.content_BT.clone()
            counted_BT[:, :ahead] = False
            counted_BT[:, ahead:] &= document_BT[:, ahead:] == document_BT[:, :-ahead]
            cost_BT = torch.where(counted_BT, F.pad(cost_BT, (ahead, 0)), 0)
            total_N = total_N + trajectories.sum_by_document(cost_BT)
            count_N = count_N + trajectories.sum_by_document(counted_BT.long())
        return LossTerm(total_N, count_N)


class NextStatePredictor(nn.Module):
    """p(h, x) of `NextLatent`."""

    def __init__(self, width: int, inner: int, rate: float) -> None:
        super().__init__()
        self.first = ScaledLinear(2 * width, inner, rate)
        self.second = ScaledLinear(inner, inner, rate)
        self.third = ScaledLinear(inner, width, rate)

    def forward(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Next states from states and the embeddings of the next tokens."""
        both = torch.cat([tokens, states], dim=-1)
        inner = F.gelu(self.first(F.layer_norm(both, both.shape[-1:])))
        return states + self.third(F.gelu(self.second(inner)))
