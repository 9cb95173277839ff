"""Low-rank adapters through PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from semtube.config import LoraOptions


def add_lora(model: Any, options: LoraOptions, seed: int, *, base: str) -> Any:
    """The model with adapters on all its linear layers but the head; only they are trained.

    Args:
        base: name of the model, which saved adapters carry so that they can be loaded again.
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
        adapted = get_peft_model(model, settings)
    path = Path(base)
    adapted.active_peft_config.base_model_name_or_path = str(
        path.resolve() if path.exists() else base
    )
    return adapted
