"""R-Drop: two passes with different dropout masks should predict alike.

Shape letters: B rows, T tokens, D hidden size, P supervised positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from semtube.objectives.objective import Encoder, Objective, widened
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import Trajectories
from semtube.objectives.weights import Weight


@dataclass(frozen=True, repr=False)
class RDrop(Objective):
    """Symmetric divergence between the predictions of two passes with different dropout.

    (KL(p || q) + KL(q || p)) / 2 at every position that predicts a supervised token, in nats; p
    comes from the host's own pass, q from a second one over the same batch. 0 where dropout
    changes nothing, so a model that drops nothing is refused. A second forward and backward pass:
    about twice the cost of a step.

    Args:
        weight: factor beside the next-token loss, at least 0; the paper's 1 to 5 stand beside two
            such losses, so they are 0.5 to 2.5 here.

    Source: R-Drop, arXiv 2106.14448, equation 3. There both passes also bear the next-token
        loss; here the first alone does, as in every other arm.
    """

    name: ClassVar[str] = "r_drop"
    encodes: ClassVar[bool] = True
    weight: Weight = 1.0

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """See `Objective`. Finding the supervised positions waits for the device once."""
        assert encoder is not None, "R-Drop encodes"
        again_BTD = encoder.again()
        place_P = trajectories.predicting_BT.flatten().nonzero()[:, 0]
        first_PV, second_PV = (
            _log_probabilities(encoder.logits(states_BTD.flatten(0, 1)[place_P]))
            for states_BTD in (hidden_BTD, again_BTD)
        )
        # KL(p || q) + KL(q || p) = sum (p - q) (log p - log q)
        cost_P = ((first_PV.exp() - second_PV.exp()) * (first_PV - second_PV)).sum(-1) / 2
        document_P = trajectories.document_BT.flatten()[place_P]
        total_N = cost_P.new_zeros(trajectories.num_documents).index_add(0, document_P, cost_P)
        return LossTerm(total_N, trajectories.sum_by_document(trajectories.predicting_BT.long()))


def _log_probabilities(logits: Tensor) -> Tensor:
    return F.log_softmax(widened(logits), dim=-1)
