"""An objective's learnable parts and running means, kept in the model while it is attached.

They are a submodule of the model, so the host's own optimizer trains them, its checkpoints hold
them and its distributed engine synchronises them; detached, the model has them no more.
"""

from __future__ import annotations

import torch
from torch import nn

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
        """For a model, on its device; initial values come from `seed` alone."""
        learned = None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if not is_never_used(objective.weight):
                learned = objective.build_parts(hidden_width(model))
        adaptive = objective.weight if isinstance(objective.weight, Adaptive) else None
        meter = GradientMeter(adaptive) if adaptive is not None or measure_gradients else None
        return cls(learned, meter).to(next(model.parameters()).device)

    def register(self, model: nn.Module, name: str) -> str:
        """Become a submodule of the model; returns the submodule's name."""
        taken = dict(model.named_children())
        names = (f"semtube_{name}{number}" for number in ("", *range(2, 99)))
        free = next(name for name in names if name not in taken)
        model.add_module(free, self)
        return free

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep."""
        return self.learned is None and self.meter is None


def hidden_width(model: nn.Module) -> int:
    """Width of the hidden states, 0 for a model that does not tell."""
    causal_lm = causal_lm_of(model)
    config = getattr(causal_lm, "config", None)
    if config is not None and hasattr(config, "get_text_config"):
        return getattr(config.get_text_config(), "hidden_size", 0)
    return 0
