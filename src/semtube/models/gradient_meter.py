"""The term's gradient beside the next-token gradient, where they meet: at the hidden states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from semtube.objectives.weights import Adaptive

#: Sums over a step: squared norms of the next-token gradient, of the term's, of the term's at the
#: states of the host's own pass, and there its product with the next-token gradient.
_SUMS = ("next_token", "term", "main", "dot")


class GradientMeter(nn.Module):
    """Norms and cosine of the two gradients, and the weight that an `Adaptive` makes of them.

    All squared norms are sums over the states of an optimizer step, over its micro-batches and
    processes. The running means are buffers, so that they are in the model's checkpoints.
    """

    next_token_squared: Tensor
    term_squared: Tensor

    def __init__(self, adaptive: Adaptive | None) -> None:
        super().__init__()
        self.adaptive = adaptive
        for name in ("next_token_squared", "term_squared"):
            self.register_buffer(name, torch.zeros(()))
        self._step: Tensor | None = None
        self._incoming: Tensor | None = None
        self._logs: Tensor | None = None

    def weight(self) -> Tensor:
        """What the past steps make of the `Adaptive` weight; one number for a whole step."""
        assert self.adaptive is not None, "only an Adaptive weight is measured"
        ratio = (self.next_token_squared / self.term_squared).sqrt()
        chosen = (self.adaptive.fraction * ratio).clamp_max(self.adaptive.maximum)
        return torch.where(self.term_squared > 0, chosen, Adaptive.FIRST)

    def tap(self, states: Tensor, weight: Tensor | float, *, main: bool) -> Tensor:
        """The states unchanged; the gradient that the term sends to them is measured.

        Args:
            main: they are those of the host's own pass, whose next-token gradient it may share.
        """
        return _Tap.apply(states, self, weight, main)

    def see_next_token(self, grad: Tensor) -> None:
        """The gradient that arrives at the states from above."""
        self._incoming = grad.detach()
        self._add(next_token=_squared(self._incoming))

    def see_term(self, grad: Tensor, weight: Tensor | float, *, main: bool) -> None:
        """The term's weighted gradient at states that it reads."""
        grad = grad.detach()
        term = _squared(grad) / weight**2
        if not main:
            self._add(term=term)
            return
        assert self._incoming is not None, "the term's gradient comes after the host's"
        dot = torch.dot(self._incoming.flatten().float(), grad.flatten().float()) / weight
        self._add(term=term, main=term, dot=dot)
        self._incoming = None

    def end_step(self, weight: Tensor | float) -> None:
        """Take the step that has ended into the running means and the logs."""
        self._incoming = None
        step, self._step = self._step, None
        if step is None:
            return
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(step)
        next_token, term, main, dot = step
        # A step whose gradients overflowed is not one to learn from.
        good = step.isfinite().all() & (term > 0)
        if self.adaptive is not None:
            keep = torch.where(good, self.adaptive.smoothing, 1.0)
            for mean, value in ((self.next_token_squared, next_token), (self.term_squared, term)):
                mean.copy_(keep * mean + (1 - keep) * torch.where(good, value, 0))
        # Only at the states of the host's own pass do both gradients exist.
        cosine = dot / (next_token * main).sqrt()
        values = torch.stack(
            [
                next_token.sqrt(),
                term.sqrt(),
                cosine.nan_to_num(0),
                torch.as_tensor(weight).to(step),
                (good & (main > 0)).to(step),
                good.to(step),
            ]
        )
        values = torch.where(good, values, 0)
        self._logs = values if self._logs is None else self._logs + values

    def pop_logs(self) -> dict[str, float]:
        """Means over the steps since the last call; empty without any."""
        logs, self._logs = self._logs, None
        if logs is None:
            return {}
        next_token, term, cosine, weight, num_cosines, count = logs.tolist()
        if count == 0:
            return {}
        found = {"gradient_next_token": next_token, "gradient_term": term, "term_weight": weight}
        found = {name: value / count for name, value in found.items()}
        return {**found, "gradient_cosine": cosine / num_cosines} if num_cosines else found

    def _add(self, **sums: Tensor) -> None:
        """More of what `_SUMS` names."""
        nothing = torch.zeros_like(next(iter(sums.values())))
        step = torch.stack([sums.get(name, nothing) for name in _SUMS])
        self._step = step if self._step is None else self._step + step


def _squared(grad: Tensor) -> Tensor:
    """The squared norm in float32, without a copy of the gradient."""
    wide = torch.promote_types(grad.dtype, torch.float32)
    return torch.linalg.vector_norm(grad, dtype=wide).square().float()


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, meter: GradientMeter, weight: Tensor | float, main: bool
    ) -> Tensor:
        ctx.meter, ctx.weight, ctx.main = meter, weight, main
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ctx.meter.see_term(grad, ctx.weight, main=ctx.main)
        return grad, None, None, None
