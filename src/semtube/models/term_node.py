"""What happens at the hidden states: the term is computed there, and its gradient added.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.encoder import ModelEncoder
from semtube.models.forward_pass import ForwardPass
from semtube.models.gradient_meter import GradientMeter
from semtube.models.parts import Parts
from semtube.objectives.objective import Objective
from semtube.objectives.random_keys import fold
from semtube.objectives.term import LossTerm


def term_at(
    hidden_BTD: Tensor,
    objective: Objective,
    forward: ForwardPass,
    parts: Parts,
    key: int,
    *,
    model: nn.Module,
    decoder: nn.Module,
    call: tuple[tuple[Any, ...], dict[str, Any]],
) -> LossTerm:
    """An objective's term at the states of one layer.

    Args:
        forward: the pass that the states are of.
        parts: what the attachment keeps in the model; a meter among them sees the gradients.
        key: seeds the draws.
        model, decoder, call: for extra passes, with the arguments of the decoder's call.
    """
    assert forward.trajectories is not None, "they are built when the states are seen"
    tap: Callable[..., Tensor] = _as_it_is
    if parts.meter is not None:
        tap = partial(parts.meter.tap, weight=forward.weight)
    encoder = None
    if objective.encodes:
        # Other texts, another step or another run: other dropout masks.
        own_key = int(fold(forward.trajectories.key_N.sum(), key)) & 0xFFFFFFFF
        wrap = partial(tap, main=False)
        encoder = ModelEncoder(model, decoder, forward.batch.input_ids, call, own_key, wrap)
    read_BTD = tap(hidden_BTD, main=True)
    with torch.autocast(hidden_BTD.device.type, enabled=False):
        return objective(read_BTD, forward.trajectories, key, parts=parts.learned, encoder=encoder)


def _as_it_is(states: Tensor, *, main: bool) -> Tensor:
    return states


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
