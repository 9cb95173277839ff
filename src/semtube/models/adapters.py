"""Low-rank adapters through PEFT."""

from __future__ import annotations

from typing import Any

import torch

from semtube.config import LoraOptions


def add_lora(model: Any, options: LoraOptions, seed: int) -> Any:
    """The model with adapters on all its linear layers but the head; only they are trained.

    Args:
        seed: of the adapters' initial weights. The global generator is left as it was.
    """
    from peft import LoraConfig, get_peft_model

    alpha = 2 * options.rank if options.alpha is None else options.alpha
    settings = LoraConfig(
        r=options.rank,
        lora_alpha=alpha,
        lora_dropout=options.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, settings)
