"""One forward pass in training: its batch, and how much each of its documents weighs.

Shape letters: B rows, T tokens, N documents.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from semtube.errors import UserError
from semtube.models.host_batch import HostBatch, pad_left
from semtube.models.host_output import field, loss_of, needs_grad
from semtube.objectives.trajectories import Trajectories


class ForwardPass:
    """One forward pass in training: its batch, and what its backward tells."""

    def __init__(self, batch: HostBatch, weight: float | Tensor) -> None:
        self.batch = batch
        self.weight = weight
        self.trajectories: Trajectories | None = None
        self.finished = False
        self.share_N: Tensor | None = None

    def listen(self, output: Any, loss_scale: float | None) -> None:
        """Learn from the host's own backward pass how much each document weighs.

        Args:
            output: what the model returned.
            loss_scale: for a host that computes its loss outside; None where it does not.

        Raises:
            UserError: it does, and no scale was given.
        """
        log_probs, loss = field(output, "log_probs"), loss_of(output)
        if needs_grad(log_probs):
            # A fused head: the host sums log-probabilities itself. Their gradient is minus the
            # weight the host gives each token.
            log_probs.register_hook(self.weigh_by_log_probs)
        elif needs_grad(loss):
            loss.register_hook(self.weigh_by_loss)
        elif loss_scale is None:
            raise UserError(
                "the model returned no loss, so the host computes it outside (label smoothing, a "
                "loss function of its own, or no labels in the batch) and its scale cannot be "
                "seen: pass attach(..., loss_scale=...), 1.0 where each backward is one step"
            )
        else:
            self.weigh_alike(loss_scale)

    def weigh_by_loss(self, grad: Tensor) -> None:
        """Share of each document, from the gradient of the host's loss at the model's loss."""
        supervised_BT = self._supervised()
        if supervised_BT is None:
            self.weigh_alike(grad)
            return
        tokens_N = self._by_document(supervised_BT.float())
        items = tokens_N.sum() if self.batch.num_items is None else self.batch.num_items
        # A step without any supervised token adds nothing, though its loss is not a number.
        at_least_one = (
            items.to(tokens_N.device).clamp_min(1) if isinstance(items, Tensor) else max(items, 1)
        )
        self.share_N = grad * tokens_N / at_least_one

    def weigh_by_log_probs(self, grad_BT: Tensor) -> None:
        """Share of each document, from d(host's loss) / d(log-probability of each token)."""
        supervised_BT = self._supervised()
        assert supervised_BT is not None, "a fused head needs labels"
        if grad_BT.shape[1] == supervised_BT.shape[1] - 1:
            supervised_BT = supervised_BT[:, 1:]
            weight_BT = F.pad(-grad_BT * supervised_BT, (1, 0))
        else:
            weight_BT = -grad_BT * supervised_BT
        self.share_N = self._by_document(weight_BT.float())

    def weigh_alike(self, scale: Tensor | float) -> None:
        """Every document with a token the same share."""
        assert self.trajectories is not None
        present_N = self.trajectories.present_N.float()
        self.share_N = scale * present_N / present_N.sum().clamp_min(1)

    def _supervised(self) -> Tensor | None:
        assert self.trajectories is not None
        labels = self.batch.labels
        virtual = 0 if labels is None else self.trajectories.document_BT.shape[1] - labels.shape[1]
        return self.batch.supervised(first_is_predicted=virtual > 0)

    def _by_document(self, value_BT: Tensor) -> Tensor:
        assert self.trajectories is not None
        virtual = self.trajectories.document_BT.shape[1] - value_BT.shape[1]
        return self.trajectories.sum_by_document(pad_left(value_BT, virtual))
