"""An objective's learnable parts and running means, kept in the model while it is attached.

They are a submodule of the model, so the host's own optimizer trains them, its checkpoints hold
them and its distributed engine synchronises them; detached, the model has them no more.
"""

from __future__ import annotations

import torch
from torch import nn

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of
from semtube.models.gradient_meter import GradientMeter
from semtube.objectives.objective import Objective
from semtube.objectives.weights import Adaptive, is_never_used


class Parts(nn.Module):
    """What an attachment adds to a model.

    Args:
        learned: made by the objective; None where it learns nothing.
        meter: None where the gradients are not measured.
    """

    def __init__(self, learned: nn.Module | None, meter: GradientMeter | None) -> None:
        super().__init__()
        self.learned = learned
        self.meter = meter

    @classmethod
    def build(
        cls, objective: Objective, model: nn.Module, seed: int, *, measure_gradients: bool
    ) -> Parts:
        """For a model, on its device; initial values come from `seed` alone.

        Raises:
            UserError: something is to be learned, and the model does not tell its width.
        """
        learned, width = None, hidden_width(model)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if not is_never_used(objective.weight):
                learned = objective.build_parts(width or 1)
        if learned is not None and width is None:
            raise UserError(
                f"{objective} has learnable parts, and {type(model).__name__} does not tell the "
                "width of its states: give it a config with hidden_size"
            )
        adaptive = objective.weight if isinstance(objective.weight, Adaptive) else None
        meter = GradientMeter(adaptive) if adaptive is not None or measure_gradients else None
        return cls(learned, meter).to(next(model.parameters()).device)

    def register(self, model: nn.Module, name: str, live: list[Parts]) -> str:
        """Become a submodule of the model; returns the submodule's name.

        Args:
            live: parts of the model's other attachments.
        """
        # A copy of an attached model still has the parts of the original's attachment.
        for child, module in list(model.named_children()):
            if isinstance(module, Parts) and module not in live:
                delattr(model, child)
        taken = dict(model.named_children())
        names = (f"semtube_{name}{number}" for number in ("", *range(2, 99)))
        free = next(name for name in names if name not in taken)
        model.add_module(free, self)
        return free

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return self.learned is None and self.meter is None


def hidden_width(model: nn.Module) -> int | None:
    """Width of the hidden states; None for a model that does not tell."""
    causal_lm = causal_lm_of(model)
    if hasattr(causal_lm, "get_output_embeddings"):
        head = causal_lm.get_output_embeddings()
        if hasattr(head, "in_features"):
            return head.in_features
    config = getattr(causal_lm, "config", None)
    return getattr(config, "hidden_size", None)
