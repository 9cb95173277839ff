"""Rows of unequal length in one batch, and models that cannot have them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from semtube.models.decoder import causal_lm_of

_NUM_PADS = 5


def pad_left(rows: Sequence[list[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (B, T), of rows that end together."""
    reverse, mask = pad_right([row[::-1] for row in rows], pad_id, device)
    return reverse.flip(1), mask.flip(1)


def pad_right(
    rows: Sequence[list[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (B, T), of rows that start together."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


def positions_of(mask_BT: Tensor) -> Tensor:
    """(B, T) number of each token in its row, from 0; 0 at padding."""
    return (mask_BT.cumsum(-1) - 1).clamp(min=0)


def accepts(model: Any, argument: str) -> bool:
    """Whether the model's forward pass takes this argument by name."""
    return argument in inspect.signature(causal_lm_of(model).forward).parameters


def next_logits(model: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, V) logits behind the last token, without a cache."""
    inputs = {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": False}
    if accepts(model, "position_ids"):
        inputs["position_ids"] = positions_of(mask_BT)
    return model(**inputs).logits[:, -1].float()


def masks_padding(model: Any, row: list[int], pad_id: int) -> bool:
    """Whether the model gives a padded row what it gives the row alone.

    Old models, recurrent ones and prompt tuning do not: they read padding in spite of the attention
    mask, or count it as positions. Found out by trying, with the first tokens of a row.
    """
    settings = getattr(model, "active_peft_config", None)
    if settings is not None and settings.is_prompt_learning:
        return False  # PEFT puts its virtual tokens before the padding and ignores positions
    device = next(model.parameters()).device
    ids, mask = pad_left([row[:8]], pad_id, device)
    alone = next_logits(model, ids, mask)
    pads = torch.full((1, _NUM_PADS), pad_id, device=device)
    padded = next_logits(
        model, torch.cat([pads, ids], 1), torch.cat([torch.zeros_like(pads), mask], 1)
    )
    # Far above rounding (1e-6, or 1e-2 in half precision), far below what another text does.
    tolerance = 0.01 if next(model.parameters()).dtype == torch.float32 else 0.1
    return bool((padded - alone).abs().max() <= tolerance * alone.abs().max())
