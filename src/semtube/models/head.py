"""The head: how a model reads tokens off its last states."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of

#: Settings by which some models rescale their logits.
_LOGIT_SCALES = ("logit_scale", "logits_scaling", "logits_soft_cap", "lm_head_multiplier")


class Head:
    """A linear head, and the soft cap that some models put on its logits.

    Raises:
        UserError: the model has no head, or rescales its logits in a way not known here.
    """

    def __init__(self, model: nn.Module) -> None:
        causal_lm: Any = causal_lm_of(model)
        module = causal_lm.get_output_embeddings()
        config = causal_lm.config.get_text_config()
        scaled = any(getattr(config, name, None) not in (None, 1) for name in _LOGIT_SCALES)
        if module is None or scaled:
            raise UserError(
                f"{type(causal_lm).__name__} has no plain head, so its predictions cannot be "
                "compared: use hidden states alone"
            )
        self._module = module
        self._cap = getattr(config, "final_logit_softcapping", None)

    @property
    def weight_VD(self) -> Tensor:
        """(V, D), a row for every token."""
        return self._module.weight

    @property
    def bias_V(self) -> Tensor | None:
        """(V,), where there is one."""
        return self._module.bias

    def __call__(self, states: Tensor) -> Tensor:
        """Logits (..., V) of last states (..., D)."""
        return self.capped(self._module(states.to(self._module.weight.dtype)))

    def capped(self, logits: Tensor) -> Tensor:
        """What the model makes of its head's product, number by number."""
        return logits if self._cap is None else self._cap * (logits / self._cap).tanh()
