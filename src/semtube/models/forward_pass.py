"""One forward pass in training, and the autograd node that adds the term's gradient to it.

Shape letters: B rows, T tokens, N documents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semtube.errors import UserError
from semtube.models.gradient_meter import GradientMeter
from semtube.models.host_batch import HostBatch
from semtube.objectives.trajectories import Trajectories


class ForwardPass:
    """One forward pass in training: its batch, and what its backward tells."""

    def __init__(self, batch: HostBatch, weight: float | Tensor) -> None:
        self.batch = batch
        self.weight = weight
        self.trajectories: Trajectories | None = None
        self.finished = False
        self.share_N: Tensor | None = None

    def weigh_by_loss(self, grad: Tensor) -> None:
        """Share of each document, from the gradient of the host's loss at the model's loss."""
        supervised_BT = self._supervised()
        if supervised_BT is None:
            self.weigh_alike(grad)
            return
        tokens_N = self._by_document(supervised_BT.float())
        items = self.batch.num_items
        if items is None:
            items = tokens_N.sum().clamp_min(1)
        elif isinstance(items, Tensor):
            items = items.to(tokens_N.device)
        self.share_N = grad * tokens_N / items

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
        return self.trajectories.sum_by_document(F.pad(value_BT, (virtual, 0)))


class AddGradient(torch.autograd.Function):
    """Pass the states through; in the backward send the host's weight to each document's cost."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        mean_N: Tensor,
        record: ForwardPass,
        weight: Tensor | float,
        arrive: Callable[[ForwardPass], None],
        meter: GradientMeter | None,
    ) -> Tensor:
        ctx.record, ctx.weight, ctx.arrive, ctx.meter = record, weight, arrive, meter
        ctx.dtype = mean_N.dtype
        return hidden.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        share_N = ctx.record.share_N
        if share_N is None:
            raise UserError(
                "the host trains on something else than the loss the model returned, so the "
                "term's scale cannot be seen: pass attach(..., loss_scale=...) and give the model "
                "no labels"
            )
        ctx.arrive(ctx.record)
        if ctx.meter is not None:
            ctx.meter.see_next_token(grad)
        return grad, (ctx.weight * share_N).to(ctx.dtype), None, None, None, None


class Touch(torch.autograd.Function):
    """Pass the states through and give parameters that this pass does not use a zero gradient.

    Distributed trainers wait for a gradient of every parameter.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *parameters: Tensor) -> Tensor:
        ctx.shapes = [(p.shape, p.dtype, p.device) for p in parameters]
        return hidden.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        zeros = (torch.zeros(s, dtype=t, device=d) for s, t, d in ctx.shapes)
        return grad, *zeros
