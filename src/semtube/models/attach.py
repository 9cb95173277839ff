"""Train any model with an auxiliary objective, without touching its class, forward or trainer.

A hook on the decoder takes the hidden states of the forward pass that is made anyway. An autograd
node there passes the next-token gradient on and adds the term's, so the visible loss stays pure
next-token loss. How much each document weighs is read off the host's own backward pass: a document
counts in the term as it counts in the next-token loss (its share of the supervised tokens, times
whatever the host divides or multiplies its loss by). The sum over micro-batches, packed rows and
processes is therefore the same however a step is split.
"""

from __future__ import annotations

from torch import nn

from semtube.models.attachment import Attachment
from semtube.objectives.objective import Objective


def attach(
    model: nn.Module,
    objective: Objective,
    *,
    seed: int = 0,
    decoder: nn.Module | str | None = None,
    loss_scale: float | None = None,
    measure_gradients: bool = False,
) -> Attachment:
    """Make every training step of `model` minimise its own loss plus `objective`.

    Use it as a context manager around the training, or keep the handle and call `detach()`.
    Detached, in `eval()`, without gradients, or with weight 0 the model is bit for bit what it
    was.

    The gradient added is that of weight * sum over documents of share * mean cost, where share
    is the document's part of the host's loss: its supervised tokens over those of the whole step.

    Args:
        model: any `transformers` causal language model, PEFT-wrapped or not, before or after DDP;
            the outermost one that the host calls. Attach before `torch.compile`.
        objective: for example `SemanticTube(weight=0.02)`.
        seed: with the step and the document's tokens it decides every draw.
        decoder: only for models without `get_decoder()`: the module, or its dotted name, that
            returns the last hidden states.
        loss_scale: only for hosts that compute the loss outside the model (no `loss` in its
            output): what they multiply their loss by in each backward, for example
            1 / accumulation steps. Documents then weigh alike, so that the gradient is that of
            loss_scale * weight * mean over documents.
        measure_gradients: log norms and cosine of the term's and the next-token gradient at the
            hidden states; an `Adaptive` weight always measures them.

    An objective with learnable parts is attached before the optimizer is made and before the
    model is wrapped for distributed training: the parts are then trained, saved and synchronised
    by the host like any other weight. Save the final model after detaching, and it is without them.

    Raises:
        UserError: no decoder, no such layer, or the same objective is attached already. While
            training: the hook never fires, or the term does not reach the gradient.

    Source: the auxiliary-gradient node follows the load-balancing losses of mixture-of-experts
        models; the objective: Semantic Tube Prediction, arXiv 2602.22617.
    """
    return Attachment(
        model,
        objective,
        seed=seed,
        decoder=decoder,
        loss_scale=loss_scale,
        measure_gradients=measure_gradients,
    )
